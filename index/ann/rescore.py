"""Exact scores of candidates, masks for FAISS, and the order of results."""

from collections.abc import Callable, Sequence

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 4_096
"""Descriptors read at a time: few enough to stay in the processor's cache."""

SURE = 2.5
"""Times the root mean square error of the codes, how far below the k-th score candidates are looked for."""

MOST = 6_400
"""Most candidates; arbitrary: 20 MB of descriptors."""


def best_of(
    descriptors: DescriptorSource, query: Descriptors, k: int, n: int, codes: Callable[[int], tuple[Scores, Rows]]
) -> tuple[Scores, Rows]:
    """The best rows of a query by exact cosine, among as many candidates as it takes.

    Codes give approximate scores. A row whose code scores less than the k-th exact score by `SURE` times the root mean
    square error of the codes is hardly among the best. Until the worst candidate is such a row, the number of
    candidates doubles: an easy query takes few of them, and a query unlike all rows many.

    Args:
        descriptors: of the index.
        query: (dim,).
        k: most results.
        n: candidates to begin with.
        codes: returns the approximate scores and the rows of the best codes, at most as many as it is given, (m,) each.

    Returns:
        Scores (m,), best first, equal ones by row, and rows (m,); m <= k.
    """
    while True:
        approximate, rows = codes(n)
        order = np.argsort(rows)
        approximate, rows = approximate[order], rows[order]
        exact = descriptors.inner_products(query, rows)
        if len(rows) < n or n >= MOST or _is_sure(exact, approximate, k):
            best = np.argsort(-exact, kind="stable")[:k]
            return exact[best], rows[best]
        n = min(2 * n, MOST)


def kth_best(scores: Scores, k: int) -> float:
    """The k-th best score; -1 where there are fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -1.0


def _is_sure(exact: Scores, approximate: Scores, k: int) -> bool:
    """Whether no row behind the candidates is likely to be among the best k."""
    # Not around the mean: candidates were picked by their codes, which therefore overrate them, and the others not.
    error = float(np.sqrt(np.mean((exact - approximate) ** 2)))
    return float(approximate.min()) + SURE * error < kth_best(exact, k)


def scan(descriptors: DescriptorSource, allowed: Rows, queries: Descriptors, k: int) -> tuple[Scores, Rows]:
    """The best of the allowed rows for each query, by brute force.

    Args:
        descriptors: of the index.
        allowed: (n,) rows, rising.
        queries: (q, dim).
        k: most results.

    Returns:
        Scores (q, k), best first, -inf where there are fewer, and rows (q, k), -1 there.
    """
    products = [descriptors[allowed[start : start + BLOCK]] @ queries.T for start in range(0, len(allowed), BLOCK)]
    table = np.concatenate(products) if products else np.empty((0, len(queries)), dtype=np.float32)
    scores, rows = _nothing(len(queries), k)
    for i in range(len(queries)):
        _keep_best(table[:, i], allowed, scores[i], rows[i])
    return scores, rows


def stacked(results: Sequence[tuple[Scores, Rows]], k: int) -> tuple[Scores, Rows]:
    """Results of q queries, (m,) scores and rows each, as (q, k) arrays, filled up with -inf and -1."""
    scores, rows = _nothing(len(results), k)
    for i, (found, at) in enumerate(results):
        scores[i, : len(found)], rows[i, : len(at)] = found, at
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
