"""Retrieval metrics, computed from the ranks of a query's positives.

Ranks start at 0 and are counted after the junk is removed. Of images with equal scores, the one with the lower row is
ranked first.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]


def positive_ranks(scores: NDArray[np.floating], positive: NDArray[np.bool_], junk: NDArray[np.bool_]) -> Ranks:
    """Computes the ranks of a query's positives.

    Args:
        scores: (n,) scores of the database images; higher is better. NaN is ranked last, and a positive after all
            other images with NaN, so that a query without a result gains nothing by the order of the database.
        positive: (n,) whether an image shows the query's landmark.
        junk: (n,) whether an image is removed before ranks are counted.

    Returns:
        (p,) ascending ranks.
    """
    unknown = np.isnan(scores)
    order = np.lexsort((unknown & positive, -np.where(unknown, -np.inf, scores)))  # stable
    return np.flatnonzero(positive[order[~junk[order]]])


def average_precision(ranks: Ranks) -> float:
    """Average precision: area under the precision-recall curve by the trapezoidal rule.

    Source: J. Philbin et al., "Object retrieval with large vocabularies and fast spatial matching", CVPR 2007 (the
    Oxford Buildings benchmark).

    Args:
        ranks: (p,) ascending ranks of all positives, p > 0.

    Returns:
        A fraction, 0 to 1.
    """
    j = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, j / np.maximum(ranks, 1))
    after = (j + 1) / (ranks + 1)
    return float(((before + after) / 2).mean())


def precision_at(ranks: Ranks, k: int) -> float:
    """Precision at k, as defined by the Revisited Oxford and Paris benchmark (arXiv 1803.11285).

    If the last positive is ranked before k, the list ends at the last positive.

    Args:
        ranks: (p,) ascending ranks of all positives, p > 0.
        k: length of the list, at least 1.

    Returns:
        A fraction, 0 to 1.
    """
    cut = min(int(ranks[-1]) + 1, k)
    return float((ranks < cut).sum() / cut)


def bootstrap_interval(
    groups: Sequence[NDArray[np.float64]], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Cluster bootstrap: percentile interval of a mean over groups that are resampled with replacement.

    Args:
        groups: values of each group: all queries of one landmark, which are correlated, or one query per group.
        confidence: share of the resampled means inside the interval, 0 to 1.
        resamples: number of resampled means.
        seed: seed of the resampling.

    Returns:
        Low and high end of the interval; both NaN without groups.
    """
    if not groups:
        return float("nan"), float("nan")
    sums = np.array([group.sum() for group in groups])
    counts = np.array([len(group) for group in groups])
    draws = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
