"""Exact rank counts on the CPU: single-precision scores in threads, and lookup tables that tell which are certain."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glam.eval.ranks.counter import CHUNK, Counts, RankCounter, row_norms
from glam.eval.ranks.score_table import UNSURE, ScoreTables
from glam.eval.tie_break import Descriptors, Keys

SAMPLE = 32
"""Rows of each block whose scores are compared with exact ones (arbitrary)."""

SAFETY = 4.0
"""The error of a score is assumed to be at most this many times the largest error in the sample, and at least
`LEAST_ERROR` (arbitrary). The bound that needs no sample, ``dim 2^-24 |query| |row|``, is dozens of times as wide, so
that dozens of times as many scores would have to be computed in double precision."""

LEAST_ERROR = 4 * 2**-24
"""Smallest assumed error of a score, as a share of the length of the query times that of the row: four roundings in
single precision."""

SMALLEST_MARGIN = 1e-30
"""Scores closer than this, times the length of the query, are always compared in double precision (arbitrary)."""


class CpuCounter(RankCounter):
    """Counts on the CPU, by the codes of `ScoreTables`.

    If the scores of a block are less exact than assumed, the tables are replaced by some with wider margins. The counts
    are exact with either.
    """

    def __init__(self, queries: Descriptors, targets: Sequence[Keys]) -> None:
        super().__init__(queries, targets)
        largest = np.array([np.abs(keys.real[np.isfinite(keys.real)]).max(initial=0.0) for keys in targets])
        self.tables = self._make_tables(np.maximum(SMALLEST_MARGIN * np.maximum(self.norms, 1), LEAST_ERROR * largest))

    def _count_sure(self, descriptors: Descriptors) -> tuple[Counts, NDArray[np.int64], NDArray[np.int64]]:
        tables, scaled_scores, has_nan = self._score_block(descriptors)
        codes = tables.codes(scaled_scores)
        codes[:, has_nan] = tables.unscored
        codes[self.has_nan] = tables.unscored[self.has_nan]
        counts: Counts = torch.bincount(torch.from_numpy(codes).view(-1), minlength=len(self.counts)).numpy()
        query, row = np.nonzero(codes == UNSURE)
        return counts, query, row

    def _score_block(self, descriptors: Descriptors) -> tuple[ScoreTables, NDArray[np.float32], NDArray[np.int64]]:
        """Tables with sufficient margins for a block, its scores scaled to them, and its rows that contain NaN."""
        tables = self.tables
        while True:
            scaled_scores, norms = self._scaled_scores(descriptors, tables)
            has_nan = np.isnan(norms)
            least = LEAST_ERROR * self.norms * norms.max(where=~has_nan, initial=0.0)
            margins = np.maximum(SAFETY * self._worst_errors(descriptors, scaled_scores, tables), least)
            if (margins <= tables.margins).all():
                return tables, scaled_scores, np.flatnonzero(has_nan)
            self.tables = tables = self._make_tables(2 * np.maximum(margins, tables.margins))

    def _worst_errors(
        self, descriptors: Descriptors, scaled_scores: NDArray[np.float32], tables: ScoreTables
    ) -> NDArray[np.float64]:
        """(q,) largest error of a score in a sample of the block, ignoring scaled scores that overflowed."""
        sample = slice(None, None, max(1, len(descriptors) // SAMPLE))
        exact = torch.from_numpy(self.queries) @ torch.from_numpy(descriptors[sample]).double().T
        errors = np.abs((scaled_scores[:, sample] - tables.offset) / tables.scale - exact.numpy())
        worst: NDArray[np.float64] = np.where(np.isfinite(errors), errors, 0.0).max(axis=1)
        return worst

    def _scaled_scores(
        self, descriptors: Descriptors, tables: ScoreTables
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The (q, n) scores of (n, dim) descriptors, scaled to the tables, and the (n,) lengths of the descriptors."""
        queries = torch.from_numpy(self.queries * tables.scale).float()
        scaled_scores = torch.empty(len(queries), len(descriptors))
        norms = []
        for start in range(0, len(descriptors), CHUNK):
            chunk = torch.from_numpy(descriptors[start : start + CHUNK]).float()
            norms.append(row_norms(chunk))
            torch.mm(queries, chunk.T, out=scaled_scores[:, start : start + CHUNK])
        scaled_scores += torch.from_numpy(tables.offset).float()
        return scaled_scores.numpy(), np.concatenate(norms)

    def _make_tables(self, margins: NDArray[np.float64]) -> ScoreTables:
        return ScoreTables([keys.real for keys in self.keys], margins)
