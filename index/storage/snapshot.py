"""One moment of an index: the images that are present, and where their descriptors lie.

    Index, saved (for the structure), duplicates, verify --> take_snapshot --> Catalog, segments

A snapshot stays what it is while a writer adds, removes or compacts: the maps keep even files that are deleted since.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.segments import FOLDER, StoredDescriptors, open_segment, segment_file
from glam.index.types import Descriptors, ImageIds

NOWHERE = -1
ATTEMPTS = 5


@dataclass(frozen=True)
class Snapshot:
    """The present images of one moment.

    Attributes:
        ids: (n,) of the images, rising.
        segments, rows: (n,) where the descriptor of each lies.
        maps: the rows of each segment; none in a copy of an index that has no descriptors, where Milvus has them.
        dim: length of a descriptor.
    """

    image_ids: ImageIds
    segments: ImageIds
    rows: ImageIds
    maps: dict[int, Descriptors]
    dim: int

    @property
    def is_bare(self) -> bool:
        """Whether it has images and not their descriptors."""
        return len(self.image_ids) > 0 and not self.maps

    def find(self, image_ids: ImageIds) -> ImageIds:
        """The place of each of these ids in ``ids``; -1 of one that is not present."""
        if not len(self.image_ids):
            return np.full(len(image_ids), NOWHERE, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.image_ids, image_ids), len(self.image_ids) - 1)
        return np.where(self.image_ids[places] == image_ids, places, NOWHERE)

    def stored(self, image_ids: ImageIds) -> StoredDescriptors:
        """The descriptors of these images; zeros of one that is not present."""
        if np.array_equal(image_ids, self.image_ids):
            return StoredDescriptors(self.maps, self.segments, self.rows, self.dim)
        if not len(self.image_ids):
            nowhere = np.full(len(image_ids), NOWHERE, dtype=np.int64)
            return StoredDescriptors(self.maps, nowhere, nowhere, self.dim)
        places = self.find(image_ids)
        return StoredDescriptors(
            self.maps, np.where(places < 0, NOWHERE, self.segments[places]), self.rows[places], self.dim
        )


def take_snapshot(index: Path, catalog: Catalog) -> Snapshot:
    """The present images of the index in the folder ``index``.

    Raises:
        GlamError: a file of descriptors is missing or too short.
    """
    for _ in range(ATTEMPTS):
        with catalog.snapshot():
            config, counts, live = catalog.config, catalog.segments(), catalog.live()
        dim = config.dim
        if config.milvus is not None and not (index / FOLDER).is_dir():
            return Snapshot(*live, {}, dim)
        try:
            maps = {number: open_segment(segment_file(index, number), rows, dim) for number, rows in counts.items()}
        except FileNotFoundError as error:
            missing = error  # a writer compacted the index between the two steps
            continue
        return Snapshot(*live, maps, dim)
    raise GlamError(f"{missing.filename}: a file of descriptors that is not there; the index is damaged") from missing
