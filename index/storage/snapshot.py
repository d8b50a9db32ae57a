"""One moment of an index: the images that are present, and where their descriptors lie.

    IndexReader, ann_cache, knn_graph, compact, verify --> take_snapshot --> Catalog, segments

A snapshot stays what it is while a writer adds, removes or compacts: the maps keep even files that are deleted since.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.segments import FOLDER, StoredDescriptors, open_segment, segment_file
from glam.index.types import Descriptors, ImageIds, Rows, SegmentNumbers, rows_of_ids

NOWHERE = -1
ATTEMPTS = 5


@dataclass(frozen=True)
class Snapshot:
    """The present images of one moment.

    Attributes:
        image_ids: (n,), rising.
        segments: (n,) the segment that holds the descriptor of each image.
        rows_in_segment: (n,) the row of the descriptor there.
        maps: the descriptors of each segment; empty in a copy without descriptors, where Milvus has them.
        dim: length of a descriptor.
    """

    image_ids: ImageIds
    segments: SegmentNumbers
    rows_in_segment: Rows
    maps: dict[int, Descriptors]
    dim: int

    @property
    def is_bare(self) -> bool:
        """Whether it has images and not their descriptors."""
        return len(self.image_ids) > 0 and not self.maps

    def rows_of(self, image_ids: ImageIds) -> Rows:
        """The index of each of these ids in ``Snapshot.image_ids``; -1 for one that is not present."""
        return rows_of_ids(self.image_ids, image_ids)

    def descriptors_of(self, image_ids: ImageIds) -> StoredDescriptors:
        """The descriptors of these images, in this order; zeros for one that is not present."""
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
    """The present images of the index in the folder ``index``.

    Raises:
        GlamError: a file of descriptors is missing or too short.
    """
    for _ in range(ATTEMPTS):
        with catalog.snapshot():
            config, counts, present = catalog.config, catalog.segments(), catalog.present_rows()
        dim = config.dim
        if config.milvus is not None and not (index / FOLDER).is_dir():
            return Snapshot(*present, {}, dim)
        try:
            maps = {number: open_segment(segment_file(index, number), count, dim) for number, count in counts.items()}
        except FileNotFoundError as error:
            missing = error  # a writer compacted the index between the two steps
            continue
        return Snapshot(*present, maps, dim)
    raise GlamError(f"{missing.filename}: a file of descriptors that is not there; the index is damaged") from missing
