"""Triton kernel that counts, tile by tile, the rows that score above each of a query's thresholds."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._tiles import scores_of, tile_for, tile_options, tile_products


@triton.jit
def _count(
    queries, rows, thresholds, above, equal,
    query_stride, row_stride, q, n, width, t,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    groups = tl.cdiv(q, BLOCK_Q)
    query = tl.program_id(0) % groups * BLOCK_Q + tl.arange(0, BLOCK_Q)
    row = tl.program_id(0) // groups * BLOCK_N + tl.arange(0, BLOCK_N)
    there = query < q
    product = tile_products(
        queries, rows, tl.minimum(query, q - 1), tl.minimum(row, n - 1), query_stride, row_stride, width,
        BLOCK_Q, BLOCK_N, BLOCK_D, EVEN, PRECISION,
    )  # fmt: skip
    score = tl.where((row < n)[None, :], scores_of(product), float("nan"))  # neither above nor equal
    for number in range(t):
        at = query.to(tl.int64) * t + number
        threshold = tl.load(thresholds + at, mask=there, other=float("nan"))[:, None]
        more = tl.sum((score > threshold).to(tl.int32), 1)
        same = tl.sum((score == threshold).to(tl.int32), 1)
        tl.atomic_add(above + at, more.to(tl.int64), mask=more > 0, sem="relaxed")
        tl.atomic_add(equal + at, same.to(tl.int64), mask=same > 0, sem="relaxed")


def forward(queries: Tensor, rows: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Arguments and result of `glam.kernels.rank_counts.rank_counts`, each row contiguous."""
    (q, width), n, t = queries.shape, len(rows), thresholds.shape[1]
    above, equal = torch.zeros((2, q, t), device=rows.device, dtype=torch.int64)
    tile = tile_for(q)
    _count[(triton.cdiv(q, tile.queries) * triton.cdiv(n, tile.rows),)](
        queries, rows, thresholds, above, equal, queries.stride(0), rows.stride(0), q, n, width, t,
        **tile_options(tile, rows),
    )  # fmt: skip
    return above, equal
