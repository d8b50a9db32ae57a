"""Exact top-k of a query: the rows of the descriptors with the largest inner products."""

import torch
from torch import Tensor

from glam.kernels import dispatch

DTYPES = (torch.float16, torch.bfloat16, torch.int8)

MAX_K = 1024
"""Largest k."""

CHUNK_SCORES = 1 << 24
"""Scores that the plain form makes at a time."""


def top_k(queries: Tensor, descriptors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best rows of each query by inner product, the best first; of equal scores the lower row.

    Products are summed in single precision, those of int8 as integers that are rounded to single precision at the end.
    Where int8 stands for larger or smaller numbers, all descriptors must have the same scale; the caller applies it. On
    a GPU the scores of one call are the same for equal descriptors; those of another number of queries may be
    summed in another order. With more than a few queries the call waits for the GPU once, at its end, for one number.

    Args:
        queries: (q, d) float16, bfloat16 or int8, finite.
        descriptors: (n, d) of the same dtype and device, finite; n below 2^31.
        k: how many, at most n and `MAX_K`.

    Returns:
        Scores (q, k) in single precision, and rows (q, k) int64.

    Raises:
        ValueError: the shapes or types do not go together, or k is out of its range.
    """
    check_pair(queries, descriptors)
    if not 1 <= k <= min(len(descriptors), MAX_K):
        raise ValueError(f"k is {k}; with {len(descriptors)} rows it must be from 1 to {min(len(descriptors), MAX_K)}")
    if len(queries) == 0 or not dispatch.triton_for(descriptors):
        return top_k_dense(queries, descriptors, k)
    from glam.kernels import _top_k, _top_k_few

    q, n = len(queries), len(descriptors)
    few = q <= _top_k_few.FEW
    if not (_top_k_few.suits(n, k) if few else _top_k.suits(q, n, k)):
        return top_k_dense(queries, descriptors, k)
    queries, descriptors = (x if x.stride(1) == 1 else x.contiguous() for x in (queries, descriptors))
    if few:
        return _top_k_few.forward(queries, descriptors, k)
    scores, best, lost = _top_k.forward(queries, descriptors, k)
    return answer_lost(queries, descriptors, scores, best) if lost.item() else (scores, best)


def top_k_dense(
    queries: Tensor, descriptors: Tensor, k: int, chunk_scores: int = CHUNK_SCORES
) -> tuple[Tensor, Tensor]:
    """The plain form of `top_k`: writes ``chunk_scores`` scores at a time. Same arguments and result."""
    q, n = len(queries), len(descriptors)
    wide = torch.float64 if descriptors.dtype == torch.int8 else torch.float32  # exact for int8 of any width
    last = 2**31 - 1
    best = torch.empty((q, 0), device=descriptors.device, dtype=torch.int64)
    size = max(1, chunk_scores // max(1, q))
    for start in range(0, n, size):
        chunk = descriptors[start : start + size]
        scores = (queries.to(wide) @ chunk.to(wide).T).float() + 0.0  # -0 would come after 0
        rows = torch.arange(start, start + len(chunk), device=descriptors.device)
        keys = (_flipped(scores.view(torch.int32)).long() << 32) | (last - rows)
        keys = torch.cat([best, keys], dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values
    return _flipped((best >> 32).int()).view(torch.float32), last - (best & last)


def answer_lost(queries: Tensor, descriptors: Tensor, scores: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """``scores`` and ``best`` rows, (q, k) each, with the queries whose rows are -1 answered by the plain form."""
    lost = (best[:, 0] < 0).nonzero().flatten()
    scores[lost], best[lost] = top_k_dense(queries[lost], descriptors, best.shape[1])
    return scores, best


def check_pair(queries: Tensor, descriptors: Tensor) -> None:
    """Checks that queries (q, d) and descriptors (n, d) can be multiplied with each other.

    Raises:
        ValueError: they cannot, or have a type that is none of `DTYPES`.
    """
    if queries.ndim != 2 or descriptors.ndim != 2 or queries.shape[1] != descriptors.shape[1]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and descriptors {tuple(descriptors.shape)} must be (q, d) and (n, d)"
        )
    if queries.dtype != descriptors.dtype or descriptors.dtype not in DTYPES:
        raise ValueError(
            f"queries are {queries.dtype}, descriptors {descriptors.dtype}; both must be float16, bfloat16 or int8"
        )
    if queries.device != descriptors.device:
        raise ValueError(f"queries are on {queries.device}, descriptors on {descriptors.device}")


def _flipped(bits: Tensor) -> Tensor:
    """The bits of single-precision numbers as integers that compare alike; undoes itself."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
