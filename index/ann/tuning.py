"""Tuning of inverted lists: the lists and candidates that a target recall needs, measured on rows of the index."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from glam.index.ann.base import DescriptorSource
from glam.index.ann.ivf_lists import IvfLists
from glam.index.ann.rescore import bitmap
from glam.index.types import Descriptors, Mask, Rows

TARGET = 0.99
"""Recall@10 to reach, relative to exact search."""

FILTERED_TARGET = 0.997
"""Recall@10 to reach under a filter. It is higher because the allowed neighbors are far from the query, and queries
that are not rows of the index miss more of them than the measurement shows."""

NEIGHBORS = 10
"""Neighbors per query in the measurement of recall."""

SEED = 2
"""Seed of the queries and masks."""

QUERIES = 400
"""Rows of the index used as queries (arbitrary); a row is not its own neighbor."""

SHARES = (1.0, 0.1, 0.01)
"""Shares of rows that a filter allows, for which effort is measured: the fewer rows, the farther the neighbors."""

COVERED = (0.993, 0.9945, 0.996, 0.998, 1.0)
"""Shares of the neighbors that the searched lists must hold, tried in this order."""

CANDIDATES = (50, 75, 100, 150, 200, 300, 400, 600, 800)
"""Numbers of candidates, tried in this order."""

BLOCK = 65_536
"""Descriptors read at a time (arbitrary)."""


@dataclass(frozen=True)
class Effort:
    """The effort that a search needs when a filter allows a given share of the rows.

    Attributes:
        share: share of allowed rows, in (0, 1].
        reach: angle in radians up to which lists are searched; see `glam.index.ann.ivf_lists.IvfLists.candidates`.
        candidates: number of candidates that are scored exactly, for ten results.
        recall: recall@10 measured with this effort.
    """

    share: float
    reach: float
    candidates: int
    recall: float


@dataclass(frozen=True)
class Tuning:
    """The efforts measured when the lists were built.

    Attributes:
        efforts: one effort for each of `SHARES`, by descending share.
        closeness: mean cosine of a row with the centroid of its list.
    """

    efforts: tuple[Effort, ...]
    closeness: float

    def reach(self, k: int, share: float) -> float:
        """The angle up to which lists are searched, interpolated over the logarithm of the share.

        The ten nearest among a tenth of the rows are as far away as the hundred nearest among all rows, so a larger
        ``k`` counts as a smaller share.

        Args:
            k: number of results.
            share: share of allowed rows, in (0, 1].

        Returns:
            The angle in radians.
        """
        share *= min(1.0, NEIGHBORS / k)
        ascending = self.efforts[::-1]
        shares, reaches = [math.log(effort.share) for effort in ascending], [effort.reach for effort in ascending]
        return float(np.interp(math.log(share), shares, reaches))

    def candidates(self, k: int, share: float) -> int:
        """The number of candidates that are scored exactly.

        Args:
            k: number of results.
            share: share of allowed rows, in (0, 1]; the effort of the next smaller measured share applies.
        """
        effort = next((effort for effort in self.efforts if effort.share <= share), self.efforts[-1])
        return effort.candidates * max(1, math.ceil(k / NEIGHBORS))

    def to_dict(self) -> dict[str, Any]:
        """The attributes as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(tuple(Effort(**effort) for effort in values["efforts"]), values["closeness"])


def tune(lists: IvfLists, descriptors: DescriptorSource) -> Tuning:
    """Measures the least effort that reaches the target recall, for each of `SHARES`.

    The target is `TARGET`, or `FILTERED_TARGET` under a filter. If no effort reaches it, the largest effort is used.

    Args:
        lists: inverted lists of all of ``descriptors``.
        descriptors: (n, dim).
    """
    rng = np.random.default_rng(SEED)
    own = sample_rows(len(descriptors), rng)
    draw = rng.random(len(descriptors), dtype=np.float32)
    masks = [draw < share for share in SHARES]
    truths = _neighbors(descriptors, own, masks)
    efforts = [_effort(lists, descriptors, own, *settings) for settings in zip(SHARES, masks, truths, strict=True)]
    return Tuning(tuple(efforts), lists.closeness(descriptors[own]))


def sample_rows(count: int, rng: np.random.Generator) -> Rows:
    """`QUERIES` random rows of ``count``, or all of them, in ascending order."""
    return np.sort(rng.choice(count, min(QUERIES, count), replace=False))


def _neighbors(descriptors: DescriptorSource, own: Rows, masks: list[Mask]) -> list[Rows]:
    """Exact neighbors (q, 10) of the rows ``own`` (q,) under each mask, without the rows themselves; -1 if fewer."""
    queries = np.ascontiguousarray(descriptors[own])
    heaps = [faiss.ResultHeap(len(own), NEIGHBORS + 1, keep_max=True) for _ in masks]
    for start in range(0, len(descriptors), BLOCK):
        block = descriptors[start : start + BLOCK]
        for heap, mask in zip(heaps, masks, strict=True):
            block_rows = np.flatnonzero(mask[start : start + BLOCK])
            found = min(NEIGHBORS + 1, len(block_rows))
            if found:
                allowed = np.ascontiguousarray(block[block_rows])
                scores, nearest = faiss.knn(queries, allowed, found, metric=faiss.METRIC_INNER_PRODUCT)
                heap.add_result(scores, start + block_rows[nearest])
    return [_without(own, heap) for heap in heaps]


def _without(own: Rows, heap: faiss.ResultHeap) -> Rows:
    """The neighbors in a heap, (q, 10), without the row of each query."""
    heap.finalize()
    order = np.argsort(own[:, None] == heap.I, axis=1, kind="stable")[:, :NEIGHBORS]
    neighbors: Rows = np.take_along_axis(heap.I, order, axis=1)
    return neighbors


def _effort(lists: IvfLists, descriptors: DescriptorSource, own: Rows, share: float, mask: Mask, truth: Rows) -> Effort:
    """The least effort that reaches the target; ``truth`` (q, 10) are the neighbors of the rows ``own`` (q,)."""
    queries: Descriptors = np.ascontiguousarray(descriptors[own])
    selector = None if share == 1 else bitmap(mask)
    neighbors = [np.sort(rows[rows >= 0]) for rows in truth]
    excess = np.concatenate(
        [lists.excess(*pair) for pair in zip(queries, (descriptors[rows] for rows in neighbors), strict=True)]
    )
    target = TARGET if share == 1 else FILTERED_TARGET
    effort = Effort(share, math.pi, CANDIDATES[-1], 1.0)
    if not len(excess):
        return effort
    for covered in COVERED:
        reach = float(np.quantile(excess, covered))
        hits = np.zeros(len(CANDIDATES), dtype=np.int64)
        for query, expected, row in zip(queries, neighbors, own, strict=True):
            _, _, (scores, found) = lists.scan_near(query, reach, CANDIDATES[-1], selector)
            hits += _hits(descriptors, query, found[np.argsort(-scores)], expected, row)
        for candidates, count in zip(CANDIDATES, hits, strict=True):
            effort = Effort(share, reach, candidates, float(count / len(excess)))
            if effort.recall >= target:
                return effort
    return effort


def _hits(descriptors: DescriptorSource, query: Descriptors, found: Rows, truth: Rows, own: int) -> NDArray[np.int64]:
    """For each of `CANDIDATES`, how many of the first candidates are neighbors.

    A candidate that scores as high as the last neighbor counts as one, so that duplicates do not lower the recall.
    """
    if not len(truth):
        return np.zeros(len(CANDIDATES), dtype=np.int64)
    lowest = float((descriptors[truth] @ query).min()) - 1e-6
    near = np.cumsum((descriptors[found] @ query >= lowest) & (found != own))
    return np.array([min(near[min(n, len(near)) - 1], len(truth)) if len(near) else 0 for n in CANDIDATES])
