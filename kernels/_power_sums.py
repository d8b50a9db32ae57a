"""Triton kernels that sum channels weighted by powers of their keys, and the gradient of the powers.

A product with few columns is limited by the memory bandwidth of reading the rows, so more columns cost nothing. The
float32 powers (and gradients) are therefore split into two numbers of the rows' type: eight columns hold the rounded
values, and eight the rounding errors.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._dot import add_product, precision, sum_of_column_parts, sum_of_row_parts, two_parts

RANK = tl.constexpr(8)


@triton.jit
def _forward(
    rows, powers, sums,
    n, channels,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    places = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    in_n = places < n
    parts = tl.arange(0, 2 * RANK)
    total = tl.zeros([BLOCK_N, 2 * RANK], tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        in_c = c < channels
        at = (image * n + places[:, None]) * channels + c[None, :]
        f = tl.load(rows + at, mask=in_n[:, None] & in_c[None, :], other=0.0)
        at_power = (image * RANK + (parts % RANK)[None, :]) * channels + c[:, None]
        power = two_parts(tl.load(powers + at_power, mask=in_c[:, None], other=0.0), (parts < RANK)[None, :], f.dtype)
        total = add_product(total, f, power, PRECISION)
    ranks = tl.arange(0, RANK)
    at_sum = (image * n + places[:, None]) * RANK + ranks[None, :]
    tl.store(sums + at_sum, sum_of_column_parts(total), mask=in_n[:, None])


@triton.jit
def _backward(
    rows, d_sums, d_powers,
    n, channels,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    parts = tl.arange(0, 2 * RANK)
    total = tl.zeros([2 * RANK, BLOCK_C], tl.float32)
    for start in range(0, n, BLOCK_N):
        places = start + tl.arange(0, BLOCK_N)
        in_n = places < n
        at = (image * n + places[:, None]) * channels + c[None, :]
        f = tl.load(rows + at, mask=in_n[:, None] & in_c[None, :], other=0.0)
        at_sum = (image * n + places[None, :]) * RANK + (parts % RANK)[:, None]
        d_sum = two_parts(tl.load(d_sums + at_sum, mask=in_n[None, :], other=0.0), (parts < RANK)[:, None], f.dtype)
        total = add_product(total, d_sum, f, PRECISION)
    ranks = tl.arange(0, RANK)
    at_power = (image * RANK + ranks[:, None]) * channels + c[None, :]
    tl.store(d_powers + at_power, sum_of_row_parts(total), mask=in_c[None, :])


def forward(rows: Tensor, powers: Tensor) -> Tensor:
    """Computes `glam.kernels.channel_attention.power_sums`.

    Args:
        rows: feature map, one row per position, (b, n, c), contiguous.
        powers: K of `glam.kernels.channel_attention.low_rank_factors`, (b, 8, c), float32, contiguous.

    Returns:
        (b, n, 8), float32.
    """
    batch, n, channels = rows.shape
    sums = torch.empty((batch, n, powers.shape[1]), device=rows.device, dtype=torch.float32)
    block = 32
    _forward[(triton.cdiv(n, block), batch)](
        rows, powers, sums, n, channels,
        BLOCK_N=block, BLOCK_C=128, PRECISION=precision(rows.dtype), num_warps=4, num_stages=3,
    )  # fmt: skip
    return sums


def backward(rows: Tensor, d_sums: Tensor) -> Tensor:
    """Computes the gradient of the powers.

    Args:
        rows: rows of `forward`, (b, n, c).
        d_sums: gradient of the sums, (b, n, 8).

    Returns:
        (b, 8, c), float32.
    """
    batch, n, channels = rows.shape
    d_powers = torch.empty((batch, d_sums.shape[2], channels), device=rows.device, dtype=torch.float32)
    block = 64
    _backward[(triton.cdiv(channels, block), batch)](
        rows, d_sums, d_powers, n, channels,
        BLOCK_N=64, BLOCK_C=block, PRECISION=precision(rows.dtype), num_warps=4, num_stages=3,
    )  # fmt: skip
    return d_powers
