"""A re-ranking database on arrays, in memory or memory-mapped, for evaluation and tests.

It searches by brute force, one block of descriptors at a time. It computes the neighbors of an image at the first
request and caches them.
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
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 65_536
"""Descriptors searched at a time (arbitrary)."""


class ArrayDescriptors(DescriptorSource):
    """The rows of several arrays as one descriptor matrix.

    Args:
        parts: arrays (n, dim) of any floating-point type; n may differ.
    """

    def __init__(self, parts: Sequence[NDArray[np.floating]]) -> None:
        self.dim = int(parts[0].shape[1])
        self._parts = [part for part in parts if len(part)]
        self._first = np.cumsum([0, *(len(part) for part in self._parts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        indices = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        descriptors = np.empty((len(indices), self.dim), dtype=np.float32)
        for first, part in zip(self._first[:-1], self._parts, strict=True):
            here = (indices >= first) & (indices < first + len(part))
            descriptors[here] = part[indices[here] - first]
        return descriptors


class MemoryDatabase:
    """A `glam.index.rerank.base.Database` on arrays.

    Args:
        parts: arrays (n, dim) of descriptors of unit length; their rows are numbered consecutively.
        local_features: returns the local features of the image in a row, or None; None if there are no images.
        block: descriptors searched at a time.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[np.floating]],
        local_features: Callable[[int], LocalFeatures | None] | None = None,
        block: int = BLOCK,
    ) -> None:
        self.matrix = ArrayDescriptors(parts)
        self._local_features = local_features
        self._block = block
        self._hidden = -2
        self._lock = Lock()
        self._known = np.zeros(len(self.matrix), dtype=np.bool_)
        self._near = np.empty((len(self.matrix), NEIGHBORS + 1), dtype=np.int64)
        self._cosines = np.empty(self._near.shape, dtype=np.float32)

    def without(self, row: int) -> "MemoryDatabase":
        """A view of the database in which one image is neither a result nor a neighbor.

        Args:
            row: row of the hidden image.
        """
        other = copy.copy(self)
        other._hidden = row
        return other

    def nearest(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.rerank.base.Database.nearest`."""
        return _without(*self._brute_force(queries, k + 1, allowed), self._hidden, k)

    def neighbors(self, rows: Rows) -> Neighbors:
        """See `glam.index.rerank.base.Database.neighbors`."""
        with self._lock:
            unknown = rows[~self._known[rows]]
            if len(unknown):
                found = self._brute_force(self.matrix[unknown], NEIGHBORS + 2, None)
                self._cosines[unknown], self._near[unknown] = _without(*found, unknown[:, None], NEIGHBORS + 1)
                self._known[unknown] = True
        scores, near = _without(self._cosines[rows], self._near[rows], self._hidden, NEIGHBORS)
        return Neighbors(near, scores)

    def local_features_in_row(self, row: int) -> LocalFeatures | None:
        """See `glam.index.rerank.base.Database.local_features_in_row`."""
        if self._local_features is None:
            raise GlamError(
                "Geometric re-ranking compares local features, but this database has only descriptors. Leave the step "
                "out, or evaluate images."
            )
        return self._local_features(row)

    def _brute_force(self, queries: Descriptors, k: int, allowed: Mask | None) -> tuple[Scores, Rows]:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        scores: Scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows: Rows = np.full((len(queries), k), -1, dtype=np.int64)
        compared = np.arange(len(self.matrix)) if allowed is None else np.flatnonzero(allowed)
        for start in range(0, len(compared), self._block):
            block = compared[start : start + self._block]
            more, near = faiss.knn(queries, self.matrix[block], min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            scores, rows = np.hstack([scores, more]), np.hstack([rows, np.where(near < 0, -1, block[near])])
            order = np.lexsort((np.where(rows < 0, len(self.matrix), rows), -scores), axis=1)[:, :k]
            scores = np.take_along_axis(scores, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        return scores, rows


def _without(scores: Scores, rows: Rows, gone: Rows | int, k: int) -> tuple[Scores, Rows]:
    """The first ``k`` of m results (q, m) per query without the row ``gone``, which is one row, or (q, 1) rows."""
    stays = rows != gone
    order = np.argsort(~stays, axis=1, kind="stable")[:, :k]
    valid = np.take_along_axis(stays, order, axis=1)
    best: Scores = np.where(valid, np.take_along_axis(scores, order, axis=1), np.float32(-np.inf))
    return best, np.where(valid, np.take_along_axis(rows, order, axis=1), -1)
