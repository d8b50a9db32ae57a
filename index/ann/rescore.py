"""Exact scores of candidates, masks for FAISS, and the order of results."""

from collections.abc import Iterable

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 4_096
"""Descriptors read at a time: few enough to stay in the processor's cache."""


def best_of(
    descriptors: DescriptorSource, candidates: Iterable[Rows], queries: Descriptors, k: int
) -> tuple[Scores, Rows]:
    """The best of each query's candidates by their exact cosines.

    Args:
        descriptors: of the index.
        candidates: rows for each query, (n,).
        queries: (q, dim).
        k: how many.

    Returns:
        Scores (q, k), best first, -inf where there are fewer, and rows (q, k), -1 there.
    """
    scores, rows = _nothing(len(queries), k)
    for i, (query, some) in enumerate(zip(queries, candidates, strict=True)):
        some = np.sort(some)
        _keep_best(descriptors.inner_products(query, some), some, scores[i], rows[i])
    return scores, rows


def scan(descriptors: DescriptorSource, allowed: Rows, queries: Descriptors, k: int) -> tuple[Scores, Rows]:
    """The best of the allowed rows for each query, as `best_of`.

    Args:
        descriptors: of the index.
        allowed: (n,) rows, rising.
        queries: (q, dim).
        k: how many.
    """
    products = [descriptors[allowed[start : start + BLOCK]] @ queries.T for start in range(0, len(allowed), BLOCK)]
    table = np.concatenate(products) if products else np.empty((0, len(queries)), dtype=np.float32)
    scores, rows = _nothing(len(queries), k)
    for i in range(len(queries)):
        _keep_best(table[:, i], allowed, scores[i], rows[i])
    return scores, rows


def _nothing(queries: int, k: int) -> tuple[Scores, Rows]:
    return np.full((queries, k), -np.inf, dtype=np.float32), np.full((queries, k), -1, dtype=np.int64)


def _keep_best(found: Scores, at: Rows, scores: Scores, rows: Rows) -> None:
    """Fills one query's results, (k,), from what was found, (n,), at rising rows; equal scores by row."""
    best = np.argsort(-found, kind="stable")[: len(scores)]
    scores[: len(best)] = found[best]
    rows[: len(best)] = at[best]


def bitmap(allowed: Mask) -> faiss.IDSelectorBitmap:
    """A FAISS selector of the rows where ``allowed`` is true."""
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]


def best_first(scores: Scores, rows: Rows) -> tuple[Scores, Rows]:
    """Results of one query by falling score, equal ones by row."""
    order = np.lexsort((rows, -scores))
    return scores[order], rows[order]
