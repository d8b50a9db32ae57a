"""Triton kernels of exact top-k for few queries: one pass over the rows writes all scores, and the best of each block.

The k best rows are in the k blocks with the best maxima, so the number of candidates is bounded, no query is lost, and
the host does not wait for the device.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._top_k import MOST_BLOCKS, find_best, find_bounds, keys_of

FEW = 4
"""Maximum number of queries for these kernels, which read the rows once per query; for more, a matrix product is
faster."""

FEW_ROWS = 32
"""Number of rows that a program multiplies at a time, and the minimum size of a block."""


@triton.jit
def _score_few(
    queries, rows, scores, maxima,
    query_stride, row_stride, q, n, width, blocks,
    BLOCK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """All scores of each query, (q, n), and the best score of each block of rows, (q, blocks)."""
    query = tl.program_id(0) % q
    block = tl.program_id(0) // q
    column = tl.arange(0, BLOCK_D)
    WHOLE: tl.constexpr = rows.dtype.element_ty == tl.int8
    KIND: tl.constexpr = tl.int32 if WHOLE else tl.float32
    best = float("-inf")
    for start in range(0, BLOCK, BLOCK_N):
        row = block * BLOCK + start + tl.arange(0, BLOCK_N)
        at = rows + tl.minimum(row, n - 1).to(tl.int64)[:, None] * row_stride + column[None, :]
        total = tl.zeros([BLOCK_N, BLOCK_D], KIND)
        for done in range(0, width, BLOCK_D):
            inside = done + column < width
            a = tl.load(queries + query.to(tl.int64) * query_stride + done + column, mask=inside, other=0)
            b = tl.load(at + done, mask=inside[None, :], other=0, eviction_policy="evict_first")
            total += b.to(KIND) * a.to(KIND)[None, :]
        score = tl.sum(total, 1).to(tl.float32) + 0.0
        tl.store(scores + query.to(tl.int64) * n + row, score, mask=row < n)
        best = tl.maximum(best, tl.max(score, 0))
    tl.store(maxima + query.to(tl.int64) * blocks + block, best)


@triton.jit
def _append_few(scores, bounds, chosen, counts, keys, n, k, BLOCK: tl.constexpr):
    """Appends the keys of the rows of a chosen block whose score reaches the query's bound."""
    query = tl.program_id(1).to(tl.int64)
    row = tl.load(chosen + query * k + tl.program_id(0)) * BLOCK + tl.arange(0, BLOCK)
    score = tl.load(scores + query * n + row, mask=row < n, other=float("-inf"))
    hit = (row < n) & (score >= tl.load(bounds + query))
    hits = hit.to(tl.int32)
    first = tl.atomic_add(counts + query, tl.sum(hits, 0), sem="relaxed")
    at = keys + query * k * BLOCK + first + tl.cumsum(hits, 0) - 1
    tl.store(at, keys_of(score, row), mask=hit)


def suits(n: int, k: int) -> bool:
    """Returns whether there are enough blocks of rows to bound the k-th best score by their maxima.

    Args:
        n: number of rows.
        k: number of best rows per query.
    """
    return n >= k * FEW_ROWS


def forward(queries: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Computes `glam.kernels.top_k.top_k` for up to `FEW` queries.

    Args:
        queries: (q, d), float16, bfloat16, or int8; the values of a row are contiguous.
        rows: (n, d), of the same dtype; the values of a row are contiguous. `suits` must hold.
        k: number of best rows per query.

    Returns:
        Scores, (q, k), float32, and rows, (q, k), int64, best first.
    """
    (q, width), n = queries.shape, len(rows)
    block = max(FEW_ROWS, triton.next_power_of_2(triton.cdiv(n, MOST_BLOCKS)))
    blocks = triton.cdiv(n, block)
    scores = rows.new_empty((q, n), dtype=torch.float32)
    maxima = rows.new_empty((q, blocks), dtype=torch.float32)
    bounds = rows.new_empty(q, dtype=torch.float32)
    chosen = rows.new_empty((q, k), dtype=torch.int32)
    counts = rows.new_zeros(q + 1, dtype=torch.int32)
    keys = rows.new_empty((q, k * block), dtype=torch.int64)
    best = rows.new_empty((q, k), dtype=torch.float32), rows.new_empty((q, k), dtype=torch.int64)
    _score_few[(blocks * q,)](
        queries, rows, scores, maxima, queries.stride(0), rows.stride(0), q, n, width, blocks,
        BLOCK=block, BLOCK_N=FEW_ROWS, BLOCK_D=min(256, triton.next_power_of_2(width)),
        num_warps=4,
    )  # fmt: skip
    find_bounds(maxima, bounds, chosen, k)
    _append_few[(k, q)](scores, bounds, chosen, counts, keys, n, k, BLOCK=block, num_warps=4)
    find_best(keys, counts, *best, counts[q:], k)
    return best
