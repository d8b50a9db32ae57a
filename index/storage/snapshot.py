"""Snapshots of an index: the present images, and the locations of their descriptors.

    IndexReader, ann_cache, knn_graph, compact, verify --> take_snapshot --> Catalog, segments

A snapshot does not change while a writer adds, removes, or compacts. Its memory maps keep even deleted files readable.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.index.storage.catalog import Catalog
from glam.index.storage.segment_check import check_sizes
from glam.index.storage.segments import FOLDER, StoredDescriptors, open_segment, segment_file
from glam.index.types import Descriptors, ImageIds, Rows, SegmentNumbers, rows_of_ids

NOWHERE = -1
"""Segment number of an image that is not present."""


@dataclass(frozen=True)
class Snapshot:
    """The present images of an index at one time.

    Attributes:
        image_ids: (n,) int64, ids of the images in ascending order.
        segments: (n,) int64, number of the segment that holds the descriptor of each image.
        rows_in_segment: (n,) int64, row of the descriptor in that segment.
        maps: memory map (rows, dim) of each segment by its number; empty in a copy of the index without descriptors,
            which fetches them from Milvus.
        dim: length of a descriptor.
    """

    image_ids: ImageIds
    segments: SegmentNumbers
    rows_in_segment: Rows
    maps: dict[int, Descriptors]
    dim: int

    @property
    def is_bare(self) -> bool:
        """Whether it has images, but no descriptors of them."""
        return len(self.image_ids) > 0 and not self.maps

    def rows_of(self, image_ids: ImageIds) -> Rows:
        """Rows of images.

        Args:
            image_ids: int64 array of any shape.

        Returns:
            For each id its index in ``Snapshot.image_ids``; -1 for an image that is not present.
        """
        return rows_of_ids(self.image_ids, image_ids)

    def descriptors_of(self, image_ids: ImageIds) -> StoredDescriptors:
        """Descriptors of images.

        Args:
            image_ids: (m,) int64.

        Returns:
            A source of m descriptors in the order of ``image_ids``; zeros for an image that is not present.
        """
        if np.array_equal(image_ids, self.image_ids):
            return StoredDescriptors(self.maps, self.segments, self.rows_in_segment, self.dim)
        if not len(self.image_ids):
            nowhere = np.full(len(image_ids), NOWHERE, dtype=np.int64)
            return StoredDescriptors(self.maps, nowhere, nowhere, self.dim)
        rows = self.rows_of(image_ids)
        return StoredDescriptors(
            self.maps, np.where(rows < 0, NOWHERE, self.segments[rows]), self.rows_in_segment[rows], self.dim
        )


def take_snapshot(index: Path, catalog: Catalog) -> Snapshot:
    """Takes a snapshot of an index.

    Args:
        index: folder of the index.
        catalog: its catalog.

    Raises:
        GlamError: a segment is missing or too short.
    """
    with catalog.snapshot():  # until it ends no writer commits, so all segments that the catalog lists exist
        config, counts, present = catalog.config, catalog.segments(), catalog.present_rows()
        if config.milvus is not None and not (index / FOLDER).is_dir():
            return Snapshot(*present, {}, config.dim)
        check_sizes(index, counts, config.dim)
        files = {number: segment_file(index, number) for number in counts}
        maps = {number: open_segment(files[number], count, config.dim) for number, count in counts.items()}
    return Snapshot(*present, maps, config.dim)
