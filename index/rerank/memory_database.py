"""A database in memory, or in memory-mapped arrays: what evaluation reranks, and what the steps are tested on.

Searching is exact, block by block. Neighbors are searched for when they are first asked for, and then remembered.
"""

import copy
from collections.abc import Callable, Sequence
from threading import Lock

import faiss
import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index.ann import DescriptorSource
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank.base import NEIGHBORS, Neighbors
from glam.index.types import Descriptors, Rows, Scores

BLOCK = 65_536
"""Rows that are compared at a time."""


class ArrayDescriptors(DescriptorSource):
    """Rows of several arrays, numbered through all of them.

    Args:
        parts: (n, dim) each, of any floating-point type.
    """

    def __init__(self, parts: Sequence[NDArray[np.floating]]) -> None:
        self.dim = int(parts[0].shape[1])
        self._parts = [part for part in parts if len(part)]
        self._first = np.cumsum([0, *(len(part) for part in self._parts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, positions: slice | Rows) -> Descriptors:
        wanted = np.arange(len(self))[positions] if isinstance(positions, slice) else positions
        rows = np.empty((len(wanted), self.dim), dtype=np.float32)
        for first, part in zip(self._first[:-1], self._parts, strict=True):
            here = (wanted >= first) & (wanted < first + len(part))
            rows[here] = part[wanted[here] - first]
        return rows


class MemoryDatabase:
    """A `glam.index.rerank.base.Database` of arrays.

    Args:
        parts: descriptors of unit length, (n, dim) each, numbered through all of them.
        features: gives the local features of the image at a position.
        block: rows compared at a time.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[np.floating]],
        features: Callable[[int], LocalFeatures | None] | None = None,
        block: int = BLOCK,
    ) -> None:
        self.rows = ArrayDescriptors(parts)
        self._features = features
        self._block = block
        self._hidden = -2
        self._lock = Lock()
        self._known = np.zeros(len(self.rows), dtype=np.bool_)
        self._near = np.empty((len(self.rows), NEIGHBORS + 1), dtype=np.int64)
        self._cosines = np.empty(self._near.shape, dtype=np.float32)

    def without(self, position: int) -> "MemoryDatabase":
        """The database as if one image were not in it: nobody finds it, and it is nobody's neighbor."""
        other = copy.copy(self)
        other._hidden = position
        return other

    def search(self, descriptors: Descriptors, k: int) -> tuple[Scores, Rows]:
        """See `glam.index.rerank.base.Database.search`."""
        return _without(*self._search(descriptors, k + 1), self._hidden, k)

    def neighbors(self, positions: Rows) -> Neighbors:
        """See `glam.index.rerank.base.Database.neighbors`; searched for where they are not known yet."""
        with self._lock:
            unknown = positions[~self._known[positions]]
            if len(unknown):
                found = self._search(self.rows[unknown], NEIGHBORS + 2)
                self._cosines[unknown], self._near[unknown] = _without(*found, unknown[:, None], NEIGHBORS + 1)
                self._known[unknown] = True
        scores, near = _without(self._cosines[positions], self._near[positions], self._hidden, NEIGHBORS)
        return Neighbors(near, scores)

    def features(self, position: int) -> LocalFeatures | None:
        """See `glam.index.rerank.base.Database.features`."""
        if self._features is None:
            raise GlamError("there are only descriptors here; to compare images point by point, the images are needed")
        return self._features(position)

    def _search(self, descriptors: Descriptors, k: int) -> tuple[Scores, Rows]:
        queries = np.ascontiguousarray(descriptors, dtype=np.float32)
        scores: Scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        positions: Rows = np.full((len(queries), k), -1, dtype=np.int64)
        for start in range(0, len(self.rows), self._block):
            block = self.rows[start : start + self._block]
            more, rows = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            scores, positions = np.hstack([scores, more]), np.hstack([positions, rows + start])
            order = np.lexsort((np.where(positions < 0, len(self.rows), positions), -scores), axis=1)[:, :k]
            scores = np.take_along_axis(scores, order, axis=1)
            positions = np.take_along_axis(positions, order, axis=1)
        return scores, positions


def _without(scores: Scores, positions: Rows, gone: Rows | int, k: int) -> tuple[Scores, Rows]:
    """The first ``k`` results of each query, (q, m) each, leaving out one position: of all, or (q, 1) of each."""
    left = positions != gone
    order = np.argsort(~left, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(left, order, axis=1)
    some: Scores = np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))
    return some, np.where(kept, np.take_along_axis(positions, order, axis=1), -1)
