"""Exact scores of candidates, masks for FAISS, and the order of results."""

from collections.abc import Iterable

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 4_096
"""Rows read at a time: few enough to stay in the processor's cache."""


def best_of(rows: DescriptorSource, candidates: Iterable[Rows], queries: Descriptors, k: int) -> tuple[Scores, Rows]:
    """The best of each query's candidates by their exact cosines.

    Args:
        rows: of the index.
        candidates: positions for each query, (n,).
        queries: (q, dim).
        k: how many.

    Returns:
        Scores (q, k), best first, -inf where there are fewer, and positions (q, k), -1 there.
    """
    scores, positions = _nothing(len(queries), k)
    for i, (query, some) in enumerate(zip(queries, candidates, strict=True)):
        some = np.sort(some)
        _keep_best(rows.products(query, some), some, scores[i], positions[i])
    return scores, positions


def scan(rows: DescriptorSource, allowed: Rows, queries: Descriptors, k: int) -> tuple[Scores, Rows]:
    """The best of the allowed rows for each query, as `best_of`.

    Args:
        rows: of the index.
        allowed: (n,) positions, rising.
        queries: (q, dim).
        k: how many.
    """
    products = [rows[allowed[start : start + BLOCK]] @ queries.T for start in range(0, len(allowed), BLOCK)]
    table = np.concatenate(products) if products else np.empty((0, len(queries)), dtype=np.float32)
    scores, positions = _nothing(len(queries), k)
    for i in range(len(queries)):
        _keep_best(table[:, i], allowed, scores[i], positions[i])
    return scores, positions


def _nothing(queries: int, k: int) -> tuple[Scores, Rows]:
    return np.full((queries, k), -np.inf, dtype=np.float32), np.full((queries, k), -1, dtype=np.int64)


def _keep_best(found: Scores, at: Rows, scores: Scores, positions: Rows) -> None:
    """Fills one query's results, (k,), from what was found, (n,), at rising positions; equal scores by position."""
    best = np.argsort(-found, kind="stable")[: len(scores)]
    scores[: len(best)] = found[best]
    positions[: len(best)] = at[best]


def bitmap(allowed: Mask) -> faiss.IDSelectorBitmap:
    """A FAISS selector of the positions where ``allowed`` is true."""
    return faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))  # type: ignore[call-arg, arg-type]


def best_first(scores: Scores, positions: Rows) -> tuple[Scores, Rows]:
    """Results of one query by falling score, equal ones by position."""
    order = np.lexsort((positions, -scores))
    return scores[order], positions[order]
