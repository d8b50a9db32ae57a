"""Segments: the files of descriptors, float32 rows in little-endian order, appended to and read through memory maps.

    Writer --append--> descriptors/000001.f32 --StoredDescriptors--> Index, the search structures, compact, verify

A row counts once the catalog names it. What lies past the rows it names is the rest of a batch that was never
finished, and is written over.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from glam.atomic_file import flush
from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource
from glam.index.ann.inner_products import products_at
from glam.index.storage.checksums import digest
from glam.index.types import Descriptors, ImageIds, Scores

FOLDER = "descriptors"


def segment_file(index: Path, number: int) -> Path:
    """The file of segment ``number`` of the index in the folder ``index``."""
    return index / FOLDER / f"{number:06d}.f32"


def digest_rows(rows: Descriptors) -> str:
    """32 hexadecimal digits, BLAKE2b of the rows as they lie in the file."""
    return digest(np.ascontiguousarray(rows, dtype="<f4").data)


def append(file: Path, row: int, rows: Descriptors) -> None:
    """Writes rows from row number ``row`` on, and returns once they are on the disk.

    Args:
        file: of the segment; made if it is not there.
        row: how many of its rows the catalog knows.
        rows: (n, dim).
    """
    new = not file.exists()
    with file.open("wb" if new else "r+b") as out:
        out.truncate(row * rows.shape[1] * 4)
        out.seek(0, os.SEEK_END)
        out.write(np.ascontiguousarray(rows, dtype="<f4").data)
        out.flush()
        os.fsync(out.fileno())
    if new:
        flush(file.parent)


def open_segment(file: Path, count: int, dim: int) -> Descriptors:
    """The first ``count`` rows, (count, dim), memory-mapped. They stay readable when the file is deleted.

    Raises:
        FileNotFoundError: there is no such file.
        GlamError: the file is shorter than the catalog says.
    """
    if count == 0:
        return np.empty((0, dim), dtype=np.float32)
    if file.stat().st_size < count * dim * 4:
        raise GlamError(f"{file}: shorter than the {count} descriptors that the catalog names; the index is damaged")
    return np.asarray(np.memmap(file, dtype="<f4", mode="r", shape=(count, dim)))


class StoredDescriptors(DescriptorSource):
    """Descriptors by position, wherever they lie; what the search structures are built of.

    Args:
        maps: the rows of each segment.
        segments: (n,) the segment of each position; of one that is no longer stored, a number that is in no map.
        rows: (n,) its row there.
        dim: length of a descriptor.
    """

    def __init__(self, maps: dict[int, Descriptors], segments: ImageIds, rows: ImageIds, dim: int) -> None:
        self.dim = dim
        self._maps = maps
        self._segments = segments
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, positions: slice | ImageIds) -> Descriptors:
        """The rows at these positions, (n, dim); zeros for those no longer stored."""
        segments, rows = self._segments[positions], self._rows[positions]
        if not len(rows):
            return np.empty((0, self.dim), dtype=np.float32)
        first = int(segments[0])
        if first in self._maps and (segments == first).all():
            begin, end = int(rows[0]), int(rows[-1]) + 1
            if isinstance(positions, slice) and end - begin == len(rows) and (np.diff(rows) == 1).all():
                return self._maps[first][begin:end]
            return self._maps[first][rows]
        found = np.zeros((len(rows), self.dim), dtype=np.float32)
        for number, stored in self._maps.items():
            here = segments == number
            found[here] = stored[rows[here]]
        return found

    def products(self, query: Descriptors, positions: ImageIds) -> Scores:
        """Of a query (dim,) with the rows at these positions, (n,), in place; 0 for those no longer stored."""
        segments, rows = self._segments[positions], self._rows[positions]
        found = np.zeros(len(rows), dtype=np.float32)
        for number, stored in self._maps.items():
            here = np.flatnonzero(segments == number)
            if len(here):
                found[here] = products_at(query, stored, rows[here])
        return found


def delete_unlisted_segments(index: Path, known: Iterable[int]) -> None:
    """Deletes the segments that the catalog does not know: what a writer that was killed left over."""
    names = {segment_file(index, number).name for number in known}
    for file in (index / FOLDER).glob("*"):
        if file.name not in names:
            file.unlink()
