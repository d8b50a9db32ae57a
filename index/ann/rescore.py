"""Exact scores of candidates, filters for FAISS, and the order of results."""

from collections.abc import Iterable

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 4_096
"""Descriptors read at a time: few enough for the cache of the processor (8 MB at 512 dimensions)."""


def best_of(
    descriptors: DescriptorSource, candidates: Iterable[Rows], queries: Descriptors, k: int
) -> tuple[Scores, Rows]:
    """The candidates with the highest exact scores for each query.

    Args:
        descriptors: source of the descriptors.
        candidates: for each query the rows (n,) to score; n may differ.
        queries: (q, dim) float32.
        k: results per query.

    Returns:
        Scores (q, k), best first, and rows (q, k); -inf and -1 where a query has fewer candidates.
    """
    scores, rows = _empty_results(len(queries), k)
    for i, (query, unsorted) in enumerate(zip(queries, candidates, strict=True)):
        candidate_rows = np.sort(unsorted)
        products = descriptors.inner_products(query, candidate_rows)
        _keep_best(products, candidate_rows, scores[i], rows[i])
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
