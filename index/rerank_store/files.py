"""The files in the folder `rerank/`: precomputed data for re-ranking, which can be computed again at any time.

    precompute, Writer --write_store_file, then register_file in a transaction--> rerank/000001.features
    Index, verify --store_files--> rerank/000001.features

A file belongs to the index once the catalog lists it. It is never changed, only replaced. It refers to images by id,
and an id always means the same image content, so a reader can use files that are older or newer than its snapshot.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.atomic_file import flush, make_folder
from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.checks import RERANK_FOLDER
from glam.index.storage.checksums import digest_file, digest_parts
from glam.index.storage.schema import STORE_FILES_SINCE
from glam.index.types import ImageIds

FOLDER = RERANK_FOLDER

LOCAL_FEATURES, KNN_GRAPH = "features", "neighbours"
"""The kinds of file, as they are called in file names and in the catalog since schema version 3."""

PUBLIC_NAMES = {LOCAL_FEATURES: "local_features", KNN_GRAPH: "knn_graph"}
"""Name of each kind in reports and commands."""

KINDS = (LOCAL_FEATURES, KNN_GRAPH)
"""The kinds of data: see `glam.index.rerank_store.local_features` and `glam.index.rerank_store.knn_graph`."""


def public_names(kinds: Iterable[str]) -> tuple[str, ...]:
    """The names of kinds in reports and commands."""
    return tuple(PUBLIC_NAMES[kind] for kind in kinds)


class StoreFile(NamedTuple):
    """A file in the folder `rerank/`.

    Attributes:
        number: number in the name of the file; it is never reused.
        kind: one of `KINDS`.
        recipe: how the data was computed; a file with another recipe than the current one is ignored.
        image_ids: (n,) int64, ids of its images in the order of the file.
        digest: BLAKE2b-128 of the file.
    """

    number: int
    kind: str
    recipe: str
    image_ids: ImageIds
    digest: str

    def path(self, index: Path) -> Path:
        """Path of the file in the folder ``index`` of an index."""
        return index / FOLDER / f"{self.number:06d}.{self.kind}"

    def is_sound(self, index: Path) -> bool:
        """Whether the file exists in the folder ``index`` of an index and matches its digest."""
        path = self.path(index)
        return path.exists() and digest_file(path) == self.digest

    def damaged(self) -> GlamError:
        """The error for a damaged file. It contains no absolute path, because services show it to anyone."""
        name = self.path(Path()).as_posix()
        option = PUBLIC_NAMES[self.kind].replace("_", "-")
        return GlamError(f"The file {name} of the index is damaged. Run `glam index precompute INDEX --{option}`.")


def store_files(catalog: Catalog, kind: str = "%") -> list[StoreFile]:
    """The files that the catalog lists, ordered by number.

    Args:
        catalog: catalog of the index.
        kind: one of `KINDS`; "%" for all.
    """
    if catalog.version < STORE_FILES_SINCE:
        return []
    found = catalog.connection.execute(
        "SELECT number, kind, recipe, images, digest FROM kept WHERE kind LIKE ? ORDER BY number", [kind]
    )
    return [
        StoreFile(number, kind, recipe, np.frombuffer(image_ids, dtype="<i8"), digest)
        for number, kind, recipe, image_ids, digest in found
    ]


def with_kind(keeps: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Adds a kind to `IndexConfig.keeps`, in the order of `KINDS`."""
    return tuple(name for name in KINDS if name in {*keeps, kind})


def write_store_file(
    index: Path, catalog: Catalog, kind: str, recipe: str, image_ids: ImageIds, arrays: Sequence[NDArray[np.generic]]
) -> StoreFile:
    """Writes a file, which belongs to the index only after `register_file`. The file is on disk on return.

    Args:
        index: folder of the index.
        catalog: catalog of the index, which provides the number of the file.
        kind: one of `KINDS`.
        recipe: how the data was computed.
        image_ids: (n,) int64, ids of the images in the order of the file.
        arrays: content of the file; the arrays are written one after another.

    Returns:
        The file, for `register_file`.
    """
    parts = [np.ascontiguousarray(array).data for array in arrays]
    query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'kept'), 0)"
    with catalog.exclusive():
        (last,) = catalog.connection.execute(query).fetchone()
        # The catalog does not know the numbers of files that are not registered yet.
        on_disk = [int(path.stem) for path in (index / FOLDER).glob("*") if path.stem.isdecimal()]
        file = StoreFile(1 + max([last, *on_disk]), kind, recipe, image_ids, digest_parts(parts))
        path = file.path(index)
        make_folder(path.parent, on_disk=True)
        with path.open("wb") as out:
            out.writelines(parts)
        flush(path)
        flush(path.parent)
    return file


def register_file(catalog: Catalog, file: StoreFile | None, instead_of: Iterable[StoreFile]) -> None:
    """Registers a file in the catalog, in place of others. Call it inside `Catalog.transaction`.

    Args:
        catalog: catalog of the index.
        file: the new file; None only removes the others.
        instead_of: files to remove from the catalog. The caller deletes them from disk, or the next writer does.
    """
    catalog.connection.executemany("DELETE FROM kept WHERE number = ?", ([old.number] for old in instead_of))
    if file is not None:
        image_ids = np.ascontiguousarray(file.image_ids, dtype="<i8").tobytes()
        catalog.connection.execute(
            "INSERT INTO kept VALUES (?, ?, ?, ?, ?)", [file.number, file.kind, file.recipe, image_ids, file.digest]
        )


def delete_unlisted(index: Path, catalog: Catalog) -> None:
    """Deletes files that the catalog does not list: those of a killed writer, and those that were replaced.

    The deletion is on disk on return.

    Args:
        index: folder of the index.
        catalog: its catalog.
    """
    known = {file.path(index) for file in store_files(catalog)}
    for path in (index / FOLDER).glob("*"):
        if path not in known:
            path.unlink()
    if (index / FOLDER).is_dir():
        flush(index / FOLDER)


def damaged_files(index: Path, catalog: Catalog) -> Iterator[tuple[Path, str]]:
    """Reads all files and compares them with their digests.

    Args:
        index: folder of the index.
        catalog: its catalog.

    Yields:
        The path of each damaged file and a description of the damage.
    """
    for file in store_files(catalog):
        if not file.path(index).exists():
            yield file.path(index), "missing"
        elif not file.is_sound(index):
            yield file.path(index), "damaged: the digest does not match"
