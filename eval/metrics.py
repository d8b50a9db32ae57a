"""Retrieval metrics, computed from the ranks of a query's positives.

Ranks start at 0 and are counted after the junk is removed. Of images with equal scores, the one with the lower row is
ranked first.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError

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


def average_precision_at(ranks: Ranks, k: int) -> float:
    """Average precision at k: sum of the precisions at the positives in the first k results, over min(p, k).

    Source: T. Weyand et al., "Google Landmarks Dataset v2", CVPR 2020 (arXiv 2004.01804).

    Args:
        ranks: (p,) ascending ranks of all positives, p > 0.
        k: length of the list, at least 1.

    Returns:
        A fraction, 0 to 1.
    """
    found = ranks[ranks < k]
    return float((np.arange(1, len(found) + 1) / (found + 1)).sum() / min(len(ranks), k))


def micro_average_precision(
    confidences: NDArray[np.floating], right: NDArray[np.bool_], landmark_queries: int
) -> float:
    """Micro average precision (microAP, also GAP): average precision of one list of the predictions for all queries.

    Of predictions with equal confidence, the wrong ones are ranked first, so that ties gain nothing. NaN is last.

    Source: T. Weyand et al., "Google Landmarks Dataset v2", CVPR 2020 (arXiv 2004.01804).

    Args:
        confidences: (n,) confidence of each prediction; at most one prediction per query.
        right: (n,) whether a prediction is right. A prediction for a query without a landmark is wrong.
        landmark_queries: number of queries that show a landmark, with or without a prediction.

    Returns:
        A fraction, 0 to 1.

    Raises:
        GlamError: no query shows a landmark.
    """
    if landmark_queries < 1:
        raise GlamError("There is nothing to evaluate, because no query shows a landmark. Check the ground truth.")
    hits = right[np.lexsort((right, -confidences, np.isnan(confidences)))]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / landmark_queries)


def mean_or_nan(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean of values; NaN without any."""
    return float(np.mean(values)) if len(values) else float("nan")


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
