"""Comparison of many approximate scores with a few exact ones: most by a table lookup, the others by bisection.

The table is small, so that it stays in the L1 cache. This matters more than the share of the scores that it decides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]

BINS = 1 << 14
"""Bins per query (arbitrary)."""
ROUNDING = 1 / 64
"""Largest rounding error of a scaled score, in bins: scaled scores are single-precision numbers below 2^14."""

UNSURE = 0
"""Code of a score that is within the margin of a target."""


class ScoreTables:
    """Lookup tables for the number of targets that a score is certainly above.

    For each query, the range of the scores of its targets is divided into equal bins. A bin that is not within the
    margin of a target holds the code of the number of targets below it; any other bin holds `UNSURE`. The first bin is
    for all scores below the range, and the last bin for all scores above it. Each query has codes of its own, so that
    one histogram counts all queries.

    Args:
        targets: for each query, the (t,) ascending scores of its targets; minus infinity for a target without a score.
        margins: (q,) largest error of the scores to look up, above 0.

    Attributes:
        margins: (q,) largest error of the scores to look up.
        scale: (q, 1) factor from a score to a scaled score, whose integer part is its bin.
        offset: (q, 1) summand that is added after ``scale``.
        first: (q,) code of a score above no target of the query; for k targets, the code is ``first + k``.
        unscored: (q, 1) code of a score that is NaN.
    """

    def __init__(self, targets: Sequence[NDArray[np.float64]], margins: NDArray[np.float64]) -> None:
        scored = [scores[np.isfinite(scores)] for scores in targets]
        lost = np.array([len(scores) - len(some) for scores, some in zip(targets, scored, strict=True)])
        low = np.array([scores[0] if len(scores) else 0.0 for scores in scored])
        high = np.array([scores[-1] if len(scores) else 0.0 for scores in scored])
        self.margins = margins
        self.first = first_codes(targets)[:-1]
        self.scale = ((BINS - 4) / (high - low + 4 * margins))[:, None]
        self.offset = (2 - (low - 2 * margins)[:, None] * self.scale).astype(np.float32).astype(np.float64)
        self.unscored = np.where(lost, UNSURE, self.first)[:, None]
        self._bins = np.arange(len(targets))[:, None] * BINS
        # Scaled scores of query q are shifted by q * BINS, so that the edges of all queries form one ascending list.
        moved = zip(scored, margins, self.scale, self.offset + self._bins, strict=True)
        edges = [((s - margin) * scale + offset, (s + margin) * scale + offset) for s, margin, scale, offset in moved]
        self._below = np.concatenate([below for below, _ in edges])
        self._above = np.concatenate([above for _, above in edges])
        counts = np.array([len(scores) for scores in scored])
        self._base = (self.first + lost - (np.cumsum(counts) - counts))[:, None]
        self._table = self._fill()

    def codes(self, scaled_scores: NDArray[np.float32]) -> Codes:
        """Looks up the (q, n) codes of (q, n) scaled scores; the code of NaN is undefined."""
        with np.errstate(invalid="ignore"):
            bins = scaled_scores.astype(np.intp)
        np.clip(bins, 0, BINS - 1, out=bins)
        bins += self._bins
        codes: Codes = self._table.take(bins)
        query, row = np.nonzero(codes == UNSURE)
        codes[query, row] = self._bisect(query, scaled_scores[query, row])
        return codes

    def _bisect(self, query: NDArray[np.int64], scaled_scores: NDArray[np.float32]) -> Codes:
        moved = scaled_scores + self._bins[query, 0]
        at_least = np.searchsorted(self._above, moved)
        at_most = np.searchsorted(self._below, moved, side="right")
        codes: Codes = np.where(at_least == at_most, self._base[query, 0] + at_least, UNSURE).astype(np.int32)
        return codes

    def _fill(self) -> Codes:
        """(q * BINS,) code of each bin."""
        first = np.floor(self._below - ROUNDING).astype(np.int64)
        last = np.floor(self._above + ROUNDING).astype(np.int64)
        size = self._bins.size * BINS
        codes = np.cumsum(np.bincount(last, minlength=size)) + np.repeat(self._base[:, 0], BINS)
        change = np.bincount(first, minlength=size + 1) - np.bincount(last + 1, minlength=size + 1)
        codes[np.cumsum(change)[:-1] > 0] = UNSURE
        result: Codes = codes.astype(np.int32)
        return result


def first_codes(targets: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:
    """(q + 1,) first code of each query, and the total number of codes.

    Args:
        targets: for each query, an array with one entry per target.
    """
    return np.cumsum([UNSURE + 1, *(len(query_targets) + 1 for query_targets in targets)])
