"""Segments: files of descriptors, float32 in little-endian order, which are appended to and memory-mapped.

    Writer --append--> descriptors/000001.f32 --StoredDescriptors--> Index, search structures, compact, verify

Only the rows that the catalog lists belong to the index. Rows after these come from a batch that was never committed,
and are overwritten.
"""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from glam.atomic_file import flush
from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource
from glam.index.ann.inner_products import inner_products_at
from glam.index.storage.checksums import digest
from glam.index.types import Descriptors, Rows, Scores, SegmentNumbers

FOLDER = "descriptors"

_NOT_EXCLUSIVELY = nullcontext()


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


def is_usable(descriptor: Descriptors) -> bool:
    """Whether a descriptor (dim,) can be searched: it is finite, and not zero."""
    return bool(np.isfinite(descriptor).all() and descriptor.any())


def append(
    file: Path, row: int, descriptors: Descriptors, exclusively: AbstractContextManager[None] = _NOT_EXCLUSIVELY
) -> None:
    """Appends descriptors to a segment. They are on disk on return.

    Args:
        file: path of the segment; created if it does not exist.
        row: number of rows that the catalog lists; rows after these are overwritten.
        descriptors: (n, dim) float32.
        exclusively: entered while the file is written, to keep other writers out: `Catalog.exclusive`.

    Raises:
        GlamError: the catalog lists rows, and the segment is missing or too short.
    """
    new = row == 0
    size = row * descriptors.shape[1] * 4
    with exclusively:
        try:
            opened = file.open("wb" if new else "r+b")
        except FileNotFoundError as error:
            raise missing(file) from error
        with opened as out:
            if out.seek(0, os.SEEK_END) < size:
                raise too_short(file, row)
            out.truncate(size)
            out.seek(size)
            out.write(np.ascontiguousarray(descriptors, dtype="<f4").data)
            out.flush()
            os.fsync(out.fileno())
        if new:
            flush(file.parent)


def truncate(file: Path, count: int, dim: int) -> None:
    """Cuts off the rows of a segment that the catalog does not list. The change is on disk on return.

    Args:
        file: path of the segment, which has at least ``count`` rows.
        count: number of rows that the catalog lists.
        dim: length of a descriptor.
    """
    with file.open("r+b") as out:
        out.truncate(count * dim * 4)
        os.fsync(out.fileno())


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
        raise too_short(file, count)
    return np.asarray(np.memmap(file, dtype="<f4", mode="r", shape=(count, dim)))


def missing(file: Path) -> GlamError:
    """The error for a segment that the catalog lists and that does not exist."""
    return GlamError(f"{file} is missing: the index is damaged. Restore a backup, or build the index again.")


def too_short(file: Path, count: int) -> GlamError:
    """The error for a segment that is too short for the ``count`` descriptors that the catalog lists."""
    return GlamError(
        f"{file} is damaged: it is too short for its {count} descriptors. Restore a backup, or build the index again."
    )


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
    """Deletes segments that the catalog does not list, which are leftovers of a killed writer. On disk on return.

    Args:
        index: folder of the index.
        known: numbers of the segments in the catalog.
    """
    names = {segment_file(index, number).name for number in known}
    for file in (index / FOLDER).glob("*"):
        if file.name not in names:
            file.unlink()
    flush(index / FOLDER)
