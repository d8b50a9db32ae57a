"""The rows with the largest inner products with a query, exactly."""

import torch
from torch import Tensor

from glam.kernels import dispatch

DTYPES = (torch.float16, torch.bfloat16, torch.int8)

MOST = 1024
"""Largest k."""

CHUNK_SCORES = 1 << 24
"""Scores that the plain form makes at a time."""


def top_k(queries: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best rows of each query by inner product, the best first; of equal scores the row with the lower number.

    Products are summed in single precision, those of int8 as whole numbers that are rounded to single precision at the
    end. Where int8 stands for larger or smaller numbers, all rows must have the same scale; it is for the caller to
    apply. On a GPU the scores of one call are the same for equal rows; those of another number of queries may be summed
    in another order. With more than a few queries the call waits for the GPU once, at its end, for one number.

    Args:
        queries: (q, d) float16, bfloat16 or int8, finite.
        rows: (n, d) of the same dtype and device, finite; n below 2^31.
        k: how many, at most n and `MOST`.

    Returns:
        Scores (q, k) in single precision, and numbers of rows (q, k) int64.

    Raises:
        ValueError: the shapes or types do not go together, or k is out of its range.
    """
    check_pair(queries, rows)
    if not 1 <= k <= min(len(rows), MOST):
        raise ValueError(f"k is {k}; with {len(rows)} rows it must be from 1 to {min(len(rows), MOST)}")
    if len(queries) == 0 or not dispatch.triton_for(rows):
        return top_k_dense(queries, rows, k)
    from glam.kernels import _top_k, _top_k_few

    q, n = len(queries), len(rows)
    few = q <= _top_k_few.FEW
    if not (_top_k_few.suits(n, k) if few else _top_k.suits(q, n, k)):
        return top_k_dense(queries, rows, k)
    queries, rows = (x if x.stride(1) == 1 else x.contiguous() for x in (queries, rows))
    if few:
        return _top_k_few.forward(queries, rows, k)
    scores, best, lost = _top_k.forward(queries, rows, k)
    return answer_lost(queries, rows, scores, best) if lost.item() else (scores, best)


def top_k_dense(queries: Tensor, rows: Tensor, k: int, chunk_scores: int = CHUNK_SCORES) -> tuple[Tensor, Tensor]:
    """The plain form of `top_k`: writes ``chunk_scores`` scores at a time. Same arguments and result."""
    q, n = len(queries), len(rows)
    wide = torch.float64 if rows.dtype == torch.int8 else torch.float32  # exact for int8 of any width
    last = 2**31 - 1
    best = torch.empty((q, 0), device=rows.device, dtype=torch.int64)
    size = max(1, chunk_scores // max(1, q))
    for start in range(0, n, size):
        chunk = rows[start : start + size]
        scores = (queries.to(wide) @ chunk.to(wide).T).float() + 0.0  # -0 would come after 0
        numbers = torch.arange(start, start + len(chunk), device=rows.device)
        keys = (_flipped(scores.view(torch.int32)).long() << 32) | (last - numbers)
        keys = torch.cat([best, keys], dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values
    return _flipped((best >> 32).int()).view(torch.float32), last - (best & last)


def answer_lost(queries: Tensor, rows: Tensor, scores: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """``scores`` and ``best`` rows, (q, k) each, with the queries whose rows are -1 answered by the plain form."""
    lost = (best[:, 0] < 0).nonzero().flatten()
    scores[lost], best[lost] = top_k_dense(queries[lost], rows, best.shape[1])
    return scores, best


def check_pair(queries: Tensor, rows: Tensor) -> None:
    """Checks that queries (q, d) and rows (n, d) can be multiplied with each other.

    Raises:
        ValueError: they cannot, or have a type that is none of `DTYPES`.
    """
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1]:
        raise ValueError(f"queries {tuple(queries.shape)} and rows {tuple(rows.shape)} must be (q, d) and (n, d)")
    if queries.dtype != rows.dtype or rows.dtype not in DTYPES:
        raise ValueError(
            f"queries are {queries.dtype}, rows {rows.dtype}; both must be float16, bfloat16 or int8 alike"
        )
    if queries.device != rows.device:
        raise ValueError(f"queries are on {queries.device}, rows on {rows.device}")


def _flipped(bits: Tensor) -> Tensor:
    """The bits of single-precision numbers as integers that compare alike; undoes itself."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
