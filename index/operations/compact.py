"""Giving back the room of removed images: segments that hold some are written anew without them.

    glam index compact --> compact --> Writer: new segments, one transaction that says where the descriptors lie now

Killed before that transaction, the index is as it was; after it, as it should be; the files that are then too many are
deleted by the next writer. Ids stay, and readers keep the files that they have open.
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
from glam.index.storage.catalog import Catalog, DescriptorBatch
from glam.index.storage.segments import digest_descriptors, segment_file
from glam.index.storage.snapshot import Snapshot, take_snapshot
from glam.index.types import Rows
from glam.index.writer import Writer, open_writer

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class CompactReport:
    """What compacting did.

    Attributes:
        removed: images that were forgotten.
        bytes_before, bytes_after: of the descriptors on disk.
    """

    removed: int
    bytes_before: int
    bytes_after: int


def compact(path: str | Path, *, limits: IndexLimits = DEFAULT_LIMITS) -> CompactReport:
    """Rewrites the segments that hold removed images, and forgets these.

    Args:
        path: folder of the index.
        limits: sizes and times at which the index changes how it works.

    Raises:
        GlamError: there is no index, its descriptors are damaged, another writer is at work, or the disk is full.
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
        raise GlamError(f"{file}: {problem}; nothing was compacted")
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
    """Writes the descriptors in these rows of the snapshot to new segments; they count once their batches do."""
    number, first = writer.catalog.next_segment(), 0
    most = writer.limits.segment_rows
    stored = snapshot.descriptors_of(snapshot.image_ids)
    start = 0
    while start < len(rows):
        if first == most:
            number, first = number + 1, 0
        block = rows[start : start + min(BLOCK_ROWS, most - first)]
        descriptors = stored[block]
        segments.append(segment_file(writer.path, number), first, descriptors)
        yield DescriptorBatch(number, first, snapshot.image_ids[block], digest_descriptors(descriptors))
        first += len(block)
        start += len(block)


def _bytes(catalog: Catalog) -> int:
    return sum(catalog.segments().values()) * catalog.config.dim * 4
