"""Segments: files of descriptors, float32 in little-endian order, which are appended to and memory-mapped.

    Writer --append--> descriptors/000001.f32 --StoredDescriptors--> Index, search structures, compact, verify

Only the rows that the catalog lists belong to the index. Rows after these come from a batch that was never committed,
and are overwritten.
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
    """Path of a segment.

    Args:
        index: folder of the index.
        number: number of the segment.
    """
    return index / FOLDER / f"{number:06d}.f32"


def digest_descriptors(descriptors: Descriptors) -> str:
    """Digest of descriptors (n, dim) as they are stored: BLAKE2b-128, 32 hexadecimal digits."""
    return digest(np.ascontiguousarray(descriptors, dtype="<f4").data)


def append(file: Path, row: int, descriptors: Descriptors) -> None:
    """Appends descriptors to a segment. They are on disk on return.

    Args:
        file: path of the segment; created if it does not exist.
        row: number of rows that the catalog lists; rows after these are overwritten.
        descriptors: (n, dim) float32.
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
    """Memory-maps a segment. The rows stay readable even if the file is deleted.

    Args:
        file: path of the segment.
        count: number of rows that the catalog lists.
        dim: length of a descriptor.

    Returns:
        (count, dim) float32.

    Raises:
        FileNotFoundError: the file does not exist.
        GlamError: the file has fewer than ``count`` rows.
    """
    if count == 0:
        return np.empty((0, dim), dtype=np.float32)
    if file.stat().st_size < count * dim * 4:
        raise GlamError(
            f"{file} is damaged: it is too short for its {count} descriptors. Restore a backup, or build the index "
            "again."
        )
    return np.asarray(np.memmap(file, dtype="<f4", mode="r", shape=(count, dim)))


class StoredDescriptors(DescriptorSource):
    """Descriptors of images in any segments, as one matrix of n rows.

    Args:
        maps: memory map (rows, dim) of each segment, by its number.
        segments: (n,) int64, segment of each row; a number that is not in ``maps`` if the row is no longer stored.
        rows_in_segment: (n,) int64, index of each row in its segment.
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
        """The descriptors in these rows, (m, dim) float32; zeros for rows that are no longer stored."""
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
        """Inner products of a query with rows.

        Args:
            query: (dim,) float32.
            rows: (m,) int64.

        Returns:
            (m,) float32; 0 for rows that are no longer stored.
        """
        segments, rows_in_segment = self._segments[rows], self._rows_in_segment[rows]
        found = np.zeros(len(segments), dtype=np.float32)
        for number, stored in self._maps.items():
            here = np.flatnonzero(segments == number)
            if len(here):
                found[here] = inner_products_at(query, stored, rows_in_segment[here])
        return found


def delete_unlisted_segments(index: Path, known: Iterable[int]) -> None:
    """Deletes segments that the catalog does not list, which are leftovers of a killed writer.

    Args:
        index: folder of the index.
        known: numbers of the segments in the catalog.
    """
    names = {segment_file(index, number).name for number in known}
    for file in (index / FOLDER).glob("*"):
        if file.name not in names:
            file.unlink()
