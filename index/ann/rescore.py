"""Exact scores of candidates, filters for FAISS, and the order of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 4_096
"""Descriptors read at a time: few enough for the cache of the processor (8 MB at 512 dimensions)."""

SURE = 2.5
"""How far below the k-th score candidates are considered, in root mean square errors of the codes. With 2, recall@10 of
queries unlike all rows falls from 0.983 to 0.971 (benchmarks/ann_loss.py with 100,000 distractors)."""

MOST = 6_400
"""Most candidates: 20 MB of descriptors with 768 dimensions (arbitrary)."""


@dataclass(frozen=True)
class Candidates:
    """Rows with the best codes for a query, and their scores.

    Attributes:
        rows: (m,) int64, ascending.
        approximate: (m,) float32, scores of the codes.
        exact: (m,) float32, scores of the descriptors.
    """

    rows: Rows
    approximate: Scores
    exact: Scores

    @classmethod
    def score(cls, descriptors: DescriptorSource, query: Descriptors, codes: tuple[Scores, Rows]) -> Self:
        """Computes the exact scores of candidates.

        Args:
            descriptors: source of the descriptors.
            query: (dim,) float32.
            codes: approximate scores and rows, (m,) each, in any order.
        """
        order = np.argsort(codes[1])
        rows = codes[1][order]
        return cls(rows, codes[0][order], descriptors.inner_products(query, rows))

    def kth_score(self, k: int) -> float:
        """The k-th highest exact score; -1 if there are fewer candidates."""
        return float(np.partition(self.exact, -k)[-k]) if len(self.exact) >= k else -1.0

    def best(self, k: int) -> tuple[Scores, Rows]:
        """Exact scores, best first, and rows, (m,) each, m <= k; equal scores are ordered by row."""
        best = np.argsort(-self.exact, kind="stable")[:k]
        return self.exact[best], self.rows[best]

    def are_enough(self, k: int) -> bool:
        """Whether no other row is likely to be among the best k."""
        # The error around 0, not around its mean: codes overrate the candidates that they chose, but not other rows.
        error = float(np.sqrt(np.mean((self.exact - self.approximate) ** 2)))
        return float(self.approximate.min()) + SURE * error < self.kth_score(k)


def best_of(first: Candidates, k: int, n: int, more: Callable[[int], Candidates]) -> tuple[Scores, Rows]:
    """Finds the best rows of a query by exact score, among as many candidates as it takes.

    Codes give approximate scores. A row whose approximate score is below the k-th exact score by `SURE` times the root
    mean square error of the codes is unlikely to be among the best. The number of candidates doubles until the worst
    one is such a row, so an easy query takes few candidates, and a query unlike all rows many.

    Args:
        first: the ``n`` best candidates, or fewer if there are no more.
        k: most results.
        n: candidates to begin with.
        more: returns the given number of best candidates, or fewer if there are no more.

    Returns:
        Scores (m,), best first, equal scores by row, and rows (m,); m is ``k``, or less if there are fewer rows.
    """
    candidates = first
    while len(candidates.rows) == n and n < MOST and not candidates.are_enough(k):
        n = min(2 * n, MOST)
        candidates = more(n)
    return candidates.best(k)


def scan(descriptors: DescriptorSource, allowed: Rows, queries: Descriptors, k: int) -> tuple[Scores, Rows]:
    """Brute-force search among the allowed rows.

    Args:
        descriptors: source of the descriptors.
        allowed: (n,) rows in ascending order.
        queries: (q, dim) float32.
        k: results per query.

    Returns:
        Scores (q, k), best first, and rows (q, k); -inf and -1 if there are fewer rows.
    """
    products = [descriptors[allowed[start : start + BLOCK]] @ queries.T for start in range(0, len(allowed), BLOCK)]
    table = np.concatenate(products) if products else np.empty((0, len(queries)), dtype=np.float32)
    scores, rows = _empty_results(len(queries), k)
    for i in range(len(queries)):
        _keep_best(table[:, i], allowed, scores[i], rows[i])
    return scores, rows


def stack_results(results: Sequence[tuple[Scores, Rows]], k: int) -> tuple[Scores, Rows]:
    """Stacks the results of q queries, scores (m,) and rows (m,) each, into (q, k) arrays, padded with -inf and -1."""
    scores, rows = _empty_results(len(results), k)
    for i, (query_scores, query_rows) in enumerate(results):
        scores[i, : len(query_scores)], rows[i, : len(query_rows)] = query_scores, query_rows
    return scores, rows


def _empty_results(queries: int, k: int) -> tuple[Scores, Rows]:
    return np.full((queries, k), -np.inf, dtype=np.float32), np.full((queries, k), -1, dtype=np.int64)


def _keep_best(products: Scores, candidate_rows: Rows, scores: Scores, rows: Rows) -> None:
    """Fills the results (k,) of a query from scores (n,) of ascending rows (n,); equal scores are ordered by row."""
    best = np.argsort(-products, kind="stable")[: len(scores)]
    scores[: len(best)] = products[best]
    rows[: len(best)] = candidate_rows[best]


def bitmap(allowed: Mask) -> faiss.IDSelectorBitmap:
    """A FAISS selector of the rows for which the mask ``allowed`` (n,) is true."""
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]


def best_first(scores: Scores, rows: Rows) -> tuple[Scores, Rows]:
    """Sorts the results of a query, (m,) scores and rows, by descending score; equal scores are ordered by row."""
    order = np.lexsort((rows, -scores))
    return scores[order], rows[order]
