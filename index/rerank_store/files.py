"""The folder rerank/: files for reranking, of the images that they name. They are derived, and made anew on request.

    precompute, Writer --write_store_file, then register_file in a transaction--> rerank/000001.features
    Index, verify --store_files--> rerank/000001.features

A file counts once the catalog names it and never changes: another takes its place. It is about images by their ids,
and an id stays with one content for ever. So a reader may take whatever files there are, older or newer than the images
that it shows, and looks only for what it has.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.atomic_file import flush
from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.checksums import digest_file, digest_parts
from glam.index.storage.schema import STORE_FILES_SINCE
from glam.index.types import ImageIds

FOLDER = "rerank"

LOCAL_FEATURES, KNN_GRAPH = "features", "neighbours"
"""Kinds of file, by the suffixes and the values in the catalog that they have had since schema version 3."""

PUBLIC_NAMES = {LOCAL_FEATURES: "local_features", KNN_GRAPH: "knn_graph"}
"""What reports and commands call each kind."""

KINDS = (LOCAL_FEATURES, KNN_GRAPH)
"""What can be precomputed: see `glam.index.rerank_store.local_features` and `glam.index.rerank_store.knn_graph`."""


def public_names(kinds: Iterable[str]) -> tuple[str, ...]:
    """What reports and commands call these kinds."""
    return tuple(PUBLIC_NAMES[kind] for kind in kinds)


class StoreFile(NamedTuple):
    """A file that the catalog names.

    Attributes:
        number: in its name; never given twice.
        kind: of `KINDS`.
        recipe: how it was made; what was made otherwise is not used.
        image_ids: (n,), in the order of the file.
        digest: of its bytes.
    """

    number: int
    kind: str
    recipe: str
    image_ids: ImageIds
    digest: str

    def path(self, index: Path) -> Path:
        """Where it lies in the index in the folder ``index``."""
        return index / FOLDER / f"{self.number:06d}.{self.kind}"

    def is_sound(self, index: Path) -> bool:
        """Whether it is there, every byte as it was written."""
        path = self.path(index)
        return path.exists() and digest_file(path) == self.digest

    def damaged(self) -> GlamError:
        """What is to be said of a file that is not sound; it may be shown to anybody, so it tells no absolute path."""
        name = self.path(Path()).as_posix()
        option = PUBLIC_NAMES[self.kind].replace("_", "-")
        return GlamError(f"{name} of the index is damaged; run `glam index precompute INDEX --{option}`")


def store_files(catalog: Catalog, kind: str = "%") -> list[StoreFile]:
    """The files of a kind, or of all, by number."""
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
    """What is kept, and a kind too."""
    return tuple(name for name in KINDS if name in {*keeps, kind})


def write_store_file(
    index: Path, catalog: Catalog, kind: str, recipe: str, image_ids: ImageIds, arrays: Sequence[NDArray[np.generic]]
) -> StoreFile:
    """Writes a file that does not count yet, and returns once it is on the disk.

    Args:
        index: its folder.
        catalog: gives it its number.
        kind: of `KINDS`.
        recipe: how it was made.
        image_ids: (n,), in the order of the file.
        arrays: what is in the file, one after another.
    """
    query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'kept'), 0)"
    (last,) = catalog.connection.execute(query).fetchone()
    # Files that wait to count in the same transaction have numbers that the catalog does not know yet.
    waiting = [int(path.stem) for path in (index / FOLDER).glob("*") if path.stem.isdecimal()]
    number = 1 + max([last, *waiting])
    parts = [np.ascontiguousarray(array).data for array in arrays]
    file = StoreFile(number, kind, recipe, image_ids, digest_parts(parts))
    path = file.path(index)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as out:
        out.writelines(parts)
    flush(path)
    flush(path.parent)
    flush(index)
    return file


def register_file(catalog: Catalog, file: StoreFile | None, instead_of: Iterable[StoreFile]) -> None:
    """Makes a file count, in the place of others; none for their place alone. Wants a transaction around."""
    catalog.connection.executemany("DELETE FROM kept WHERE number = ?", ([old.number] for old in instead_of))
    if file is not None:
        image_ids = np.ascontiguousarray(file.image_ids, dtype="<i8").tobytes()
        catalog.connection.execute(
            "INSERT INTO kept VALUES (?, ?, ?, ?, ?)", [file.number, file.kind, file.recipe, image_ids, file.digest]
        )


def delete_unlisted(index: Path, catalog: Catalog) -> None:
    """Deletes the files that the catalog does not name: those of a killed writer, and those that were replaced."""
    known = {file.path(index) for file in store_files(catalog)}
    for path in (index / FOLDER).glob("*"):
        if path not in known:
            path.unlink()


def damaged_files(index: Path, catalog: Catalog) -> Iterator[tuple[Path, str]]:
    """Reads all files; gives each that is not what was written, and what is wrong."""
    for file in store_files(catalog):
        if not file.path(index).exists():
            yield file.path(index), "not there"
        elif not file.is_sound(index):
            yield file.path(index), "damaged: not the bytes that were written"
