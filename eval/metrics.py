"""Retrieval metrics, from the ranks of a query's positives.

A rank is zero-based and counted with the junk taken out of the list. Of images with equal scores the one with the lower
number comes first.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]


def positive_ranks(scores: NDArray[np.floating], positive: NDArray[np.bool_], junk: NDArray[np.bool_]) -> Ranks:
    """Ranks of a query's positives.

    Args:
        scores: (n,) of the database, higher is nearer; a NaN counts as lower than everything.
        positive: (n,) which images show the query's landmark.
        junk: (n,) which images are taken out of the list before anything is counted.

    Returns:
        (p,) ascending.
    """
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    return np.flatnonzero(positive[order[~junk[order]]])


def average_precision(ranks: Ranks) -> float:
    """Area under the precision-recall curve by trapezoids, as in the Oxford buildings benchmark.

    Args:
        ranks: (p,) ascending, of all positives, p > 0.
    """
    j = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, j / np.maximum(ranks, 1))
    after = (j + 1) / (ranks + 1)
    return float(((before + after) / 2).mean())


def precision_at(ranks: Ranks, k: int) -> float:
    """mP@k of the Revisited Oxford and Paris benchmark: a list that ends at the last positive is cut there.

    Args:
        ranks: (p,) ascending, of all positives, p > 0.
        k: length of the list, at least 1.
    """
    cut = min(int(ranks[-1]) + 1, k)
    return float((ranks < cut).sum() / cut)


def bootstrap_interval(
    groups: Sequence[NDArray[np.float64]], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean when whole groups are drawn again with replacement.

    Args:
        groups: values of each group; a query a group, or all queries of one landmark where they hang together.
        confidence: share of the resampled means inside the interval.
        resamples: how many.
        seed: of the draws.

    Returns:
        Low and high end; both NaN without groups.
    """
    if not groups:
        return float("nan"), float("nan")
    sums = np.array([group.sum() for group in groups])
    counts = np.array([len(group) for group in groups])
    draws = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
