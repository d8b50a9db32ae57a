"""Comparing very many approximate scores with a few exact ones: most by one look into a table, the others by bisection.

A table of few bins stays in the processor's first cache, which matters more than how many scores it decides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]

BINS = 1 << 14
ROUNDING = 1 / 64
"""Largest rounding error of a scaled score, in bins: it is a number below 2^14 in single precision."""

UNSURE = 0
"""The code of a score that the margin leaves open."""


class ScoreTables:
    """How many targets of its query a score is surely above.

    Of each query the range of the targets' scores is cut into equal bins. A bin that comes near no target holds the
    number of targets below it, the others `UNSURE`. The first bin is for whatever lies below the range, the last for
    what lies above it. Numbers of different queries have different codes, so that one histogram counts them all.

    Args:
        targets: q arrays of scores, ascending; minus infinity for a target without one.
        margins: (q,) what the scores that are compared may be off by, above 0.

    Attributes:
        margins: as given.
        scale, offset: (q, 1); a score times ``scale`` plus ``offset`` is the scaled score, the bin that it falls in.
        first: (q,) the code for a score above no target of the query; above k, it is ``first + k``.
        unscored: (q, 1) the code for a score that is NaN.
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
        # A scaled score of query q is moved by q BINS, so that the edges of all queries make one ascending list.
        moved = zip(scored, margins, self.scale, self.offset + self._bins, strict=True)
        edges = [((s - margin) * scale + offset, (s + margin) * scale + offset) for s, margin, scale, offset in moved]
        self._below = np.concatenate([below for below, _ in edges])
        self._above = np.concatenate([above for _, above in edges])
        counts = np.array([len(scores) for scores in scored])
        self._base = (self.first + lost - (np.cumsum(counts) - counts))[:, None]
        self._table = self._fill()

    def codes(self, scaled_scores: NDArray[np.float32]) -> Codes:
        """(q, n) scaled scores to their (q, n) codes; NaN has any code."""
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
        """(q BINS,) the code that each bin holds."""
        first = np.floor(self._below - ROUNDING).astype(np.int64)
        last = np.floor(self._above + ROUNDING).astype(np.int64)
        size = self._bins.size * BINS
        codes = np.cumsum(np.bincount(last, minlength=size)) + np.repeat(self._base[:, 0], BINS)
        change = np.bincount(first, minlength=size + 1) - np.bincount(last + 1, minlength=size + 1)
        codes[np.cumsum(change)[:-1] > 0] = UNSURE
        result: Codes = codes.astype(np.int32)
        return result


def first_codes(targets: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:
    """(q + 1,) the first code of each query with so many targets, and the number of all codes."""
    return np.cumsum([UNSURE + 1, *(len(of_query) + 1 for of_query in targets)])
