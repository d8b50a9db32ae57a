"""Exact scores of candidates, filters for FAISS, and the order of results."""

from collections.abc import Sequence

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 4_096
"""Descriptors read at a time: few enough for the cache of the processor (8 MB at 512 dimensions)."""


def score(descriptors: DescriptorSource, query: Descriptors, rows: Rows) -> tuple[Scores, Rows]:
    """Computes the exact scores of candidates.

    Args:
        descriptors: source of the descriptors.
        query: (dim,) float32.
        rows: (m,) int64, in any order.

    Returns:
        Scores and rows, (m,) each, by ascending row.
    """
    rows = np.sort(rows)
    return descriptors.inner_products(query, rows), rows


def kth_best(scores: Scores, k: int) -> float:
    """The k-th highest of (n,) scores; -1 if there are fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -1.0


def best_of(scored: Sequence[tuple[Scores, Rows]], k: int) -> tuple[Scores, Rows]:
    """The candidates with the highest scores for each of q queries.

    Args:
        scored: for each query, the result of `score`.
        k: results per query.

    Returns:
        Scores (q, k), best first, and rows (q, k); -inf and -1 where a query has fewer candidates.
    """
    scores, rows = _empty_results(len(scored), k)
    for i, (candidate_scores, candidate_rows) in enumerate(scored):
        _keep_best(candidate_scores, candidate_rows, scores[i], rows[i])
    return scores, rows


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
