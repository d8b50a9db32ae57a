"""Exact top-k: the rows of a descriptor matrix with the largest inner products with a query."""

import torch
from torch import Tensor

from glam.kernels import dispatch

DTYPES = (torch.float16, torch.bfloat16, torch.int8)
"""Supported element types."""

MAX_K = 1024
"""Maximum k; arbitrary. One program sorts k candidates on the chip."""

CHUNK_SCORES = 1 << 24
"""Number of scores that the plain form computes at a time; arbitrary."""


def top_k(queries: Tensor, descriptors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Finds the k rows with the largest inner products for each query, best first; ties in the order of rows.

    Products are summed in single precision, and those of int8 as integers that are then rounded to single precision. If
    int8 values represent scaled numbers, all descriptors must have the same scale, and the caller multiplies the scores
    by it. On a GPU, equal descriptors get equal scores within one call, but the order of summation can depend on the
    number of queries. With more than a few queries, the call synchronizes with the GPU once, at its end.

    Args:
        queries: queries, (q, d), float16, bfloat16, or int8, finite.
        descriptors: descriptors, (n, d), of the same dtype and device, finite; n < 2^31.
        k: number of rows per query, from 1 to the lesser of n and `MAX_K`.

    Returns:
        Scores, (q, k), float32, and rows, (q, k), int64.

    Raises:
        ValueError: the shapes, types, or devices do not match, or k is out of range.
    """
    check_pair(queries, descriptors)
    if not 1 <= k <= min(len(descriptors), MAX_K):
        raise ValueError(
            f"k is {k}, but with {len(descriptors)} rows it must be from 1 to {min(len(descriptors), MAX_K)}"
        )
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
    """Plain form of `top_k`, which computes all scores, chunk by chunk.

    Args:
        queries: queries, (q, d), float16, bfloat16, or int8, finite.
        descriptors: descriptors, (n, d), of the same dtype and device, finite.
        k: number of rows per query, from 1 to n.
        chunk_scores: number of scores to compute at a time.

    Returns:
        Scores, (q, k), float32, and rows, (q, k), int64.
    """
    q, n = len(queries), len(descriptors)
    wide = torch.float64 if descriptors.dtype == torch.int8 else torch.float32  # exact for int8 of any width
    last = 2**31 - 1
    best = torch.empty((q, 0), device=descriptors.device, dtype=torch.int64)
    size = max(1, chunk_scores // max(1, q))
    for start in range(0, n, size):
        chunk = descriptors[start : start + size]
        scores = (queries.to(wide) @ chunk.to(wide).T).float() + 0.0  # + 0.0 turns -0 into 0, so that they rank equally
        rows = torch.arange(start, start + len(chunk), device=descriptors.device)
        keys = (_flipped(scores.view(torch.int32)).long() << 32) | (last - rows)
        keys = torch.cat([best, keys], dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values
    return _flipped((best >> 32).int()).view(torch.float32), last - (best & last)


def answer_lost(queries: Tensor, descriptors: Tensor, scores: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Answers the queries that the kernel lost (their rows are -1) by the plain form, in place.

    Args:
        queries: queries, (q, d).
        descriptors: descriptors, (n, d), of the same dtype and device.
        scores: scores of the kernel, (q, k), float32.
        best: rows of the kernel, (q, k), int64.

    Returns:
        ``scores`` and ``best``.
    """
    lost = (best[:, 0] < 0).nonzero().flatten()
    scores[lost], best[lost] = top_k_dense(queries[lost], descriptors, best.shape[1])
    return scores, best


def check_pair(queries: Tensor, descriptors: Tensor) -> None:
    """Checks that queries and descriptors have matching shapes, types, and devices.

    Args:
        queries: queries, (q, d).
        descriptors: descriptors, (n, d).

    Raises:
        ValueError: a shape, type, or device does not match, or the type is not in `DTYPES`.
    """
    if queries.ndim != 2 or descriptors.ndim != 2 or queries.shape[1] != descriptors.shape[1]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and descriptors {tuple(descriptors.shape)} must be (q, d) and (n, d)"
        )
    if queries.dtype != descriptors.dtype or descriptors.dtype not in DTYPES:
        raise ValueError(
            f"queries are {queries.dtype}, descriptors {descriptors.dtype}; both must be float16, bfloat16, or int8"
        )
    if queries.device != descriptors.device:
        raise ValueError(
            f"queries are on {queries.device}, descriptors on {descriptors.device}; both must be on one device"
        )


def _flipped(bits: Tensor) -> Tensor:
    """Maps the bits of float32 numbers to integers of the same order; the function is its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
