"""One moment of an index: the images that are present, and where their descriptors lie.

    Index, saved (for the structure), duplicates, verify --> take_snapshot --> Catalogue, segments

A snapshot stays what it is while a writer adds, removes or compacts: the maps keep even files that are deleted since.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.storage.catalog import Catalogue
from glam.index.storage.segments import FOLDER, StoredRows, open_segment, segment_file
from glam.index.types import Numbers, Rows

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

    ids: Numbers
    segments: Numbers
    rows: Numbers
    maps: dict[int, Rows]
    dim: int

    @property
    def is_bare(self) -> bool:
        """Whether it has images and not their descriptors."""
        return len(self.ids) > 0 and not self.maps

    def find(self, ids: Numbers) -> Numbers:
        """The place of each of these ids in ``ids``; -1 of one that is not present."""
        if not len(self.ids):
            return np.full(len(ids), NOWHERE, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, NOWHERE)

    def stored(self, ids: Numbers) -> StoredRows:
        """The descriptors of these images; zeros of one that is not present."""
        if np.array_equal(ids, self.ids):
            return StoredRows(self.maps, self.segments, self.rows, self.dim)
        if not len(self.ids):
            nowhere = np.full(len(ids), NOWHERE, dtype=np.int64)
            return StoredRows(self.maps, nowhere, nowhere, self.dim)
        places = self.find(ids)
        return StoredRows(self.maps, np.where(places < 0, NOWHERE, self.segments[places]), self.rows[places], self.dim)


def take_snapshot(index: Path, catalogue: Catalogue) -> Snapshot:
    """The present images of the index in the folder ``index``.

    Raises:
        GlamError: a file of descriptors is missing or too short.
    """
    for _ in range(ATTEMPTS):
        with catalogue.snapshot():
            about, counts, live = catalogue.about, catalogue.segments(), catalogue.live()
        dim = about.dim
        if about.milvus is not None and not (index / FOLDER).is_dir():
            return Snapshot(*live, {}, dim)
        try:
            maps = {number: open_segment(segment_file(index, number), rows, dim) for number, rows in counts.items()}
        except FileNotFoundError as error:
            missing = error  # a writer compacted the index between the two steps
            continue
        return Snapshot(*live, maps, dim)
    raise GlamError(f"{missing.filename}: a file of descriptors that is not there; the index is damaged") from missing
