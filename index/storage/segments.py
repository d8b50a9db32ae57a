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
from glam.index.ann.inner_products import inner_products_at
from glam.index.storage.checksums import digest
from glam.index.types import Descriptors, Rows, Scores, SegmentNumbers

FOLDER = "descriptors"


def segment_file(index: Path, number: int) -> Path:
    """The file of segment ``number`` of the index in the folder ``index``."""
    return index / FOLDER / f"{number:06d}.f32"


def digest_descriptors(descriptors: Descriptors) -> str:
    """32 hexadecimal digits, BLAKE2b of the descriptors as they lie in the file."""
    return digest(np.ascontiguousarray(descriptors, dtype="<f4").data)


def append(file: Path, row: int, descriptors: Descriptors) -> None:
    """Writes rows from row number ``row`` on, and returns once they are on the disk.

    Args:
        file: of the segment; made if it is not there.
        row: how many of its rows the catalog knows.
        descriptors: (n, dim).
    """
    new = not file.exists()
    with file.open("wb" if new else "r+b") as out:
        out.truncate(row * descriptors.shape[1] * 4)
        out.seek(0, os.SEEK_END)
        out.write(np.ascontiguousarray(descriptors, dtype="<f4").data)
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
    """Descriptors by row, wherever they lie; what the search structures are built of.

    Args:
        maps: the descriptors of each segment.
        segments: (n,) the segment of each row; of one that is no longer stored, a number that is in no map.
        rows_in_segment: (n,) its row there.
        dim: length of a descriptor.
    """

    def __init__(self, maps: dict[int, Descriptors], segments: SegmentNumbers, rows_in_segment: Rows, dim: int) -> None:
        self.dim = dim
        self._maps = maps
        self._segments = segments
        self._rows_in_segment = rows_in_segment

    def __len__(self) -> int:
        return len(self._rows_in_segment)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        """The descriptors in these rows, (n, dim); zeros for those no longer stored."""
        segments, rows_in_segment = self._segments[rows], self._rows_in_segment[rows]
        if not len(rows_in_segment):
            return np.empty((0, self.dim), dtype=np.float32)
        first = int(segments[0])
        if first in self._maps and (segments == first).all():
            begin, end = int(rows_in_segment[0]), int(rows_in_segment[-1]) + 1
            if isinstance(rows, slice) and end - begin == len(segments) and (np.diff(rows_in_segment) == 1).all():
                return self._maps[first][begin:end]
            return self._maps[first][rows_in_segment]
        found = np.zeros((len(segments), self.dim), dtype=np.float32)
        for number, stored in self._maps.items():
            here = segments == number
            found[here] = stored[rows_in_segment[here]]
        return found

    def inner_products(self, query: Descriptors, rows: Rows) -> Scores:
        """Inner products of a query (dim,) with the descriptors in these rows, (n,); 0 for those no longer stored."""
        segments, rows_in_segment = self._segments[rows], self._rows_in_segment[rows]
        found = np.zeros(len(segments), dtype=np.float32)
        for number, stored in self._maps.items():
            here = np.flatnonzero(segments == number)
            if len(here):
                found[here] = inner_products_at(query, stored, rows_in_segment[here])
        return found


def delete_unlisted_segments(index: Path, known: Iterable[int]) -> None:
    """Deletes the segments that the catalog does not know: what a writer that was killed left over."""
    names = {segment_file(index, number).name for number in known}
    for file in (index / FOLDER).glob("*"):
        if file.name not in names:
            file.unlink()
