"""The folder rerank/: files for reranking, of the images that they name. They are derived, and made anew on request.

    keep, Writer --write_kept, then put_kept in a transaction--> rerank/000001.features --kept_files--> Index, verify

A file counts once the catalogue names it and never changes: another takes its place. It is about images by their ids,
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
from glam.index.storage.catalog import Catalogue
from glam.index.storage.digests import digest_file, digest_parts
from glam.index.storage.schema import KEPT_SINCE
from glam.index.types import Numbers

FOLDER = "rerank"

FEATURES, NEIGHBOURS = "features", "neighbours"

KINDS = (FEATURES, NEIGHBOURS)
"""What can be kept: see `glam.index.rerank_store.local_features` and `glam.index.rerank_store.knn_graph`."""


class KeptFile(NamedTuple):
    """A file that the catalogue names.

    Attributes:
        number: in its name; never given twice.
        kind: of `KINDS`.
        recipe: how it was made; what was made otherwise is not used.
        images: (n,) ids, in the order of the file.
        digest: of its bytes.
    """

    number: int
    kind: str
    recipe: str
    images: Numbers
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
        return GlamError(f"{name} of the index is damaged; `glam index keep INDEX --{self.kind}` makes it anew")


def kept_files(catalogue: Catalogue, kind: str = "%") -> list[KeptFile]:
    """The files of a kind, or of all, by number."""
    if catalogue.version < KEPT_SINCE:
        return []
    found = catalogue.connection.execute(
        "SELECT number, kind, recipe, images, digest FROM kept WHERE kind LIKE ? ORDER BY number", [kind]
    )
    return [
        KeptFile(number, kind, recipe, np.frombuffer(images, dtype="<i8"), digest)
        for number, kind, recipe, images, digest in found
    ]


def with_kind(keeps: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """What is kept, and a kind too."""
    return tuple(name for name in KINDS if name in {*keeps, kind})


def write_kept(
    index: Path, catalogue: Catalogue, kind: str, recipe: str, images: Numbers, arrays: Sequence[NDArray[np.generic]]
) -> KeptFile:
    """Writes a file that does not count yet, and returns once it is on the disk.

    Args:
        index: its folder.
        catalogue: gives it its number.
        kind: of `KINDS`.
        recipe: how it was made.
        images: (n,) ids.
        arrays: what is in the file, one after another.
    """
    query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'kept'), 0)"
    (last,) = catalogue.connection.execute(query).fetchone()
    # Files that wait to count in the same transaction have numbers that the catalogue does not know yet.
    waiting = [int(path.stem) for path in (index / FOLDER).glob("*") if path.stem.isdecimal()]
    number = 1 + max([last, *waiting])
    parts = [np.ascontiguousarray(array).data for array in arrays]
    file = KeptFile(number, kind, recipe, images, digest_parts(parts))
    path = file.path(index)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as out:
        out.writelines(parts)
    flush(path)
    flush(path.parent)
    flush(index)
    return file


def put_kept(catalogue: Catalogue, file: KeptFile | None, instead_of: Iterable[KeptFile]) -> None:
    """Makes a file count, in the place of others; none for their place alone. Wants a transaction around."""
    catalogue.connection.executemany("DELETE FROM kept WHERE number = ?", ([old.number] for old in instead_of))
    if file is not None:
        images = np.ascontiguousarray(file.images, dtype="<i8").tobytes()
        catalogue.connection.execute(
            "INSERT INTO kept VALUES (?, ?, ?, ?, ?)", [file.number, file.kind, file.recipe, images, file.digest]
        )


def delete_unknown(index: Path, catalogue: Catalogue) -> None:
    """Deletes the files that the catalogue does not name: those of a killed writer, and those that were replaced."""
    known = {file.path(index) for file in kept_files(catalogue)}
    for path in (index / FOLDER).glob("*"):
        if path not in known:
            path.unlink()


def damaged_files(index: Path, catalogue: Catalogue) -> Iterator[tuple[Path, str]]:
    """Reads all files; gives each that is not what was written, and what is wrong."""
    for file in kept_files(catalogue):
        if not file.path(index).exists():
            yield file.path(index), "not there"
        elif not file.is_sound(index):
            yield file.path(index), "damaged: not the bytes that were written"
