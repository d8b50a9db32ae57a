"""How far inverted lists have to look: measured on rows of the index itself when they are built."""

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
"""Recall@10 against exact search."""

FILTERED_TARGET = 0.997
"""The same under a filter: what it leaves lies far off, and queries that are no rows of the index miss more of it."""

NEIGHBORS = 10
SEED = 2
QUERIES = 400
"""Rows of the index whose neighbors are looked for, each without itself."""

SHARES = (1.0, 0.1, 0.01)
"""Of the rows that a filter may leave: the nearest of fewer rows lie further off."""

COVERED = (0.993, 0.9945, 0.996, 0.998, 1.0)
"""Shares of the neighbors that the lists have to hold, tried in this order."""

CANDIDATES = (50, 75, 100, 150, 200, 300, 400, 600, 800)
BLOCK = 65_536
"""Descriptors read at a time."""


@dataclass(frozen=True)
class Effort:
    """How far to look where a filter leaves a share of the rows.

    Attributes:
        share: of the rows.
        reach: angle in radians up to which lists are looked into (`glam.index.ann.ivf_lists`).
        candidates: codes whose rows are scored exactly, for ten results.
        recall: share of the ten nearest that were found so.
    """

    share: float
    reach: float
    candidates: int
    recall: float


@dataclass(frozen=True)
class Tuning:
    """What was measured when the lists were built.

    Attributes:
        efforts: by falling share.
        closeness: mean cosine of rows with the centroids of their lists.
    """

    efforts: tuple[Effort, ...]
    closeness: float

    def reach(self, k: int, share: float) -> float:
        """For ``k`` results among a share of the rows, above 0: between what was measured, by the share's logarithm.

        The ten nearest of every tenth row lie as far off as the hundred nearest of all.
        """
        share *= min(1.0, NEIGHBORS / k)
        rising = self.efforts[::-1]
        shares, reaches = [math.log(effort.share) for effort in rising], [effort.reach for effort in rising]
        return float(np.interp(math.log(share), shares, reaches))

    def candidates(self, k: int, share: float) -> int:
        """Codes whose rows are scored exactly, for ``k`` results among a share of the rows: as for no larger one."""
        effort = next((effort for effort in self.efforts if effort.share <= share), self.efforts[-1])
        return effort.candidates * max(1, math.ceil(k / NEIGHBORS))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what `to_dict` made."""
        return cls(tuple(Effort(**effort) for effort in values["efforts"]), values["closeness"])


def tune(lists: IvfLists, descriptors: DescriptorSource) -> Tuning:
    """Finds the effort that reaches `TARGET` (`FILTERED_TARGET`), or the most there is where none does.

    Args:
        lists: that hold all of ``descriptors``.
        descriptors: (n, dim).
    """
    rng = np.random.default_rng(SEED)
    own = _sampled_rows(len(descriptors), rng)
    draw = rng.random(len(descriptors), dtype=np.float32)
    masks = [draw < share for share in SHARES]
    truths = _neighbors(descriptors, own, masks)
    efforts = [_effort(lists, descriptors, own, *settings) for settings in zip(SHARES, masks, truths, strict=True)]
    return Tuning(tuple(efforts), lists.closeness(sample(descriptors)))


def sample(descriptors: DescriptorSource) -> Descriptors:
    """The (n, dim) descriptors of `QUERIES` random rows, or of all."""
    return descriptors[_sampled_rows(len(descriptors), np.random.default_rng(SEED))]


def _sampled_rows(count: int, rng: np.random.Generator) -> Rows:
    return np.sort(rng.choice(count, min(QUERIES, count), replace=False))


def _neighbors(descriptors: DescriptorSource, own: Rows, masks: list[Mask]) -> list[Rows]:
    """Exact neighbors, (q, 10), of the rows ``own`` under each mask, themselves left out; -1 where there are fewer."""
    queries = np.ascontiguousarray(descriptors[own])
    heaps = [faiss.ResultHeap(len(own), NEIGHBORS + 1, keep_max=True) for _ in masks]
    for start in range(0, len(descriptors), BLOCK):
        block = descriptors[start : start + BLOCK]
        for heap, mask in zip(heaps, masks, strict=True):
            at = np.flatnonzero(mask[start : start + BLOCK])
            found = min(NEIGHBORS + 1, len(at))
            if found:
                allowed = np.ascontiguousarray(block[at])
                scores, nearest = faiss.knn(queries, allowed, found, metric=faiss.METRIC_INNER_PRODUCT)
                heap.add_result(scores, start + at[nearest])
    return [_without(own, heap) for heap in heaps]


def _without(own: Rows, heap: faiss.ResultHeap) -> Rows:
    heap.finalize()
    order = np.argsort(own[:, None] == heap.I, axis=1, kind="stable")[:, :NEIGHBORS]
    neighbors: Rows = np.take_along_axis(heap.I, order, axis=1)
    return neighbors


def _effort(lists: IvfLists, descriptors: DescriptorSource, own: Rows, share: float, mask: Mask, truth: Rows) -> Effort:
    queries: Descriptors = np.ascontiguousarray(descriptors[own])
    selector = None if share == 1 else bitmap(mask)
    wanted = [np.sort(some[some >= 0]) for some in truth]
    excess = np.concatenate(
        [lists.excess(*pair) for pair in zip(queries, (descriptors[some] for some in wanted), strict=True)]
    )
    target = TARGET if share == 1 else FILTERED_TARGET
    effort = Effort(share, math.pi, CANDIDATES[-1], 1.0)
    if not len(excess):
        return effort
    for covered in COVERED:
        reach = float(np.quantile(excess, covered))
        hits = np.zeros(len(CANDIDATES), dtype=np.int64)
        for query, want, row in zip(queries, wanted, own, strict=True):
            _, near = lists.near(query, reach)
            scores, found = lists.scan(query, near, CANDIDATES[-1], selector)
            hits += _hits(descriptors, query, found[np.argsort(-scores)], want, row)
        for candidates, hit in zip(CANDIDATES, hits, strict=True):
            effort = Effort(share, reach, candidates, float(hit / len(excess)))
            if effort.recall >= target:
                return effort
    return effort


def _hits(descriptors: DescriptorSource, query: Descriptors, found: Rows, wanted: Rows, own: int) -> NDArray[np.int64]:
    """How many of the first 50, 75, ... candidates are as near as the neighbors wanted: equal rows count alike."""
    if not len(wanted):
        return np.zeros(len(CANDIDATES), dtype=np.int64)
    worst = float((descriptors[wanted] @ query).min()) - 1e-6
    near = np.cumsum((descriptors[found] @ query >= worst) & (found != own))
    return np.array([min(near[min(n, len(near)) - 1], len(wanted)) if len(near) else 0 for n in CANDIDATES])
