"""`compact`: frees the disk space of removed images by rewriting the segments that hold them.

    glam index compact --> compact --> Writer: new segments, then one transaction with the new rows of the descriptors

A kill before the transaction leaves the index unchanged; after it, compacted. In both cases the next writer deletes the
leftover files. Images keep their ids, and readers keep the files that they have open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.operations.verify import damaged_segments
from glam.index.rerank_store.files import register_file
from glam.index.rerank_store.local_features import rewrite_without
from glam.index.storage import segments
from glam.index.storage.catalog import Catalog
from glam.index.storage.records import DescriptorBatch
from glam.index.storage.segments import digest_descriptors, segment_file
from glam.index.storage.snapshot import Snapshot, take_snapshot
from glam.index.types import Rows
from glam.index.writer import Writer, open_writer

BLOCK_ROWS = 4096
"""Rows copied at a time, and rows per batch in the catalog (arbitrary): 8 MB at 512 dimensions."""


@dataclass(frozen=True)
class CompactReport:
    """The result of `compact`.

    Attributes:
        removed: number of removed images that were deleted from the index for good.
        bytes_before: size of the descriptors on disk before, in bytes.
        bytes_after: size of the descriptors on disk afterwards, in bytes.
    """

    removed: int
    bytes_before: int
    bytes_after: int


def compact(path: str | Path, *, limits: IndexLimits = DEFAULT_LIMITS) -> CompactReport:
    """Rewrites the segments that hold removed images without them, and deletes these images from the catalog.

    Args:
        path: folder of the index.
        limits: limits of the index.

    Returns:
        How many images were deleted, and the size of the descriptors before and after.

    Raises:
        GlamError: there is no index, its descriptors are damaged, another writer is active, or the disk is full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        catalog = writer.catalog
        removed, before = catalog.removed_count(), _bytes(catalog)
        if removed:
            writer.begin_changes()
            _rewrite(writer, take_snapshot(writer.path, catalog))
            writer.tidy()
            catalog.connection.execute("VACUUM")
        after = _bytes(catalog)
    return CompactReport(removed, before, after)


def _rewrite(writer: Writer, snapshot: Snapshot) -> None:
    catalog = writer.catalog
    present = dict(zip(*np.unique(snapshot.segments, return_counts=True), strict=True))
    old = [number for number, count in catalog.segments().items() if present.get(number, 0) < count]
    for file, problem in damaged_segments(writer.path, catalog, old):
        raise GlamError(f"{file}: {problem}. Nothing was compacted. Restore a backup, or build the index again.")
    moving = np.flatnonzero(np.isin(snapshot.segments, old))
    batches = list(_write(writer, snapshot, moving))
    features = rewrite_without(writer.path, catalog, catalog.removed())
    with catalog.transaction():
        for new, replaced in features:
            register_file(catalog, new, [replaced])
        catalog.forget_removed(old)
        for batch in batches:
            catalog.add_batch(batch)


def _write(writer: Writer, snapshot: Snapshot, rows: Rows) -> Iterator[DescriptorBatch]:
    """Writes the descriptors in these rows (n,) of the snapshot to new segments; the caller commits their batches."""
    number, first = writer.catalog.next_segment(), 0
    most = writer.limits.segment_rows
    stored = snapshot.descriptors_of(snapshot.image_ids)
    start = 0
    while start < len(rows):
        if first == most:
            number, first = number + 1, 0
        block = rows[start : start + min(BLOCK_ROWS, most - first)]
        descriptors = stored[block]
        segments.append(segment_file(writer.path, number), first, descriptors, writer.catalog.exclusive())
        yield DescriptorBatch(number, first, snapshot.image_ids[block], digest_descriptors(descriptors))
        first += len(block)
        start += len(block)


def _bytes(catalog: Catalog) -> int:
    return sum(catalog.segments().values()) * catalog.config.dim * 4
