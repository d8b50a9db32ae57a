"""Gain of one model over another on the same queries, with its uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.eval.metrics import bootstrap_interval
from glam.plurals import count


@dataclass(frozen=True)
class Gain:
    """Gain in mAP on held-out landmarks, as fractions.

    Attributes:
        before: mAP of the first model.
        after: mAP of the second model.
        interval: low and high end of the 95% bootstrap interval of the gain, over landmarks.
        landmarks: number of landmarks.
        queries: number of queries with a positive.
    """

    before: float
    after: float
    interval: tuple[float, float]
    landmarks: int
    queries: int

    @property
    def mean(self) -> float:
        """mAP of the second model minus mAP of the first."""
        return self.after - self.before

    def __str__(self) -> str:
        low, high = (100 * end for end in self.interval)
        return (
            f"mAP on {count(self.landmarks, 'held-out landmark')}: {100 * self.before:.2f} before, "
            f"{100 * self.after:.2f} after ({100 * self.mean:+.2f}, 95% interval {low:+.2f} to {high:+.2f})"
        )


def map_gain(before: NDArray[np.float64], after: NDArray[np.float64], landmark_ids: NDArray[np.int64]) -> Gain:
    """Computes the gain in mAP and its interval.

    Args:
        before: (q,) AP of each query with the first model; NaN if it has no positive.
        after: (q,) AP of each query with the second model; NaN for the same queries.
        landmark_ids: (q,) landmark id of each query.
    """
    scored = ~np.isnan(before)
    gains = after - before
    landmarks = np.unique(landmark_ids[scored])
    groups = [gains[scored & (landmark_ids == landmark)] for landmark in landmarks]
    return Gain(
        float(before[scored].mean()),
        float(after[scored].mean()),
        bootstrap_interval(groups),
        len(landmarks),
        int(scored.sum()),
    )
