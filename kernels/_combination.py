"""Triton kernels that combine GLAM's streams and pool the result by GeM, forward and backward.

Each program holds a block of channels of one image and loops over the positions. It computes the rank-8 product of the
global channel attention, the gains, and the power on the chip, and writes one number per channel. The backward pass
computes them again and writes the gradients of the rows.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._dot import add_product, precision, product, sum_of_column_parts, sum_of_row_parts, two_parts

RANK = tl.constexpr(8)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _mixed_channels(weighted, first, second, at_row, in_n, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr):
    """G_c of a block, the sum of ``weighted[n] query^n / normalizer``, by Horner's rule from the first two factors."""
    query = (second / first)[None, :]
    total = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
    for power in tl.static_range(RANK):
        sums = tl.load(weighted + at_row * RANK + (RANK - 1 - power), mask=in_n, other=0.0)
        total = total * query + sums[:, None]
    return total * first[None, :]


@triton.jit
def _forward(
    rows, channel_gain, position_gain, weighted, query_factors, spatial, fusion, exponent, out,
    n, channels,
    LOCAL_CHANNEL: tl.constexpr, LOCAL_SPATIAL: tl.constexpr,
    GLOBAL_CHANNEL: tl.constexpr, GLOBAL_SPATIAL: tl.constexpr, EPS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    p = tl.load(exponent)
    fusion_local, fusion_global, fusion_input = tl.load(fusion), tl.load(fusion + 1), tl.load(fusion + 2)
    local_channel = tl.zeros([BLOCK_C], tl.float32)
    if LOCAL_CHANNEL:
        local_channel += tl.load(channel_gain + image * channels + c, mask=in_c, other=0.0)
    first = tl.full([BLOCK_C], 1.0, tl.float32)
    second = tl.full([BLOCK_C], 1.0, tl.float32)
    if GLOBAL_CHANNEL:
        at_factor = query_factors + image * channels * RANK + c
        first = tl.load(at_factor, mask=in_c, other=1.0)
        second = tl.load(at_factor + channels, mask=in_c, other=1.0)
    total = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, n, BLOCK_N):
        places = start + tl.arange(0, BLOCK_N)
        in_n = places < n
        at_row = image * n + places
        inside = in_n[:, None] & in_c[None, :]
        at = at_row[:, None] * channels + c[None, :]
        stream = tl.full([BLOCK_N, BLOCK_C], 1.0, tl.float32)
        if GLOBAL_SPATIAL:
            stream += tl.load(spatial + at, mask=inside, other=0.0).to(tl.float32)
        if GLOBAL_CHANNEL:
            stream *= _mixed_channels(weighted, first, second, at_row, in_n, BLOCK_N, BLOCK_C)
        local = (1.0 + local_channel)[None, :]
        if LOCAL_SPATIAL:
            local = local * (1.0 + tl.load(position_gain + at_row, mask=in_n, other=0.0))[:, None]
        f = tl.load(rows + at, mask=inside, other=0.0).to(tl.float32)
        attended = f * (fusion_local * local + fusion_global * stream + fusion_input)
        powered = tl.exp2(p * tl.log2(tl.maximum(attended, EPS)))
        total += tl.sum(tl.where(inside, powered, 0.0), 0)
    tl.store(out + image * channels + c, tl.exp2(tl.log2(total / n) / p), mask=in_c)


@triton.jit
def _backward(
    rows, channel_gain, position_gain, weighted, query_factors, spatial, fusion, exponent, out, d_out,
    d_rows, d_channel, d_position, d_weighted, d_factors, d_spatial, sums_out,
    n, channels,
    LOCAL_CHANNEL: tl.constexpr, LOCAL_SPATIAL: tl.constexpr,
    GLOBAL_CHANNEL: tl.constexpr, GLOBAL_SPATIAL: tl.constexpr, EPS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0)
    c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    ranks = tl.arange(0, RANK)
    parts = tl.arange(0, 2 * RANK)
    p = tl.load(exponent)
    fusion_local, fusion_global, fusion_input = tl.load(fusion), tl.load(fusion + 1), tl.load(fusion + 2)
    y = tl.load(out + image * channels + c, mask=in_c, other=1.0)
    log_y = tl.log2(y)
    scale = tl.load(d_out + image * channels + c, mask=in_c, other=0.0) * tl.exp2((1.0 - p) * log_y) / n
    local_channel = tl.zeros([BLOCK_C], tl.float32)
    if LOCAL_CHANNEL:
        local_channel += tl.load(channel_gain + image * channels + c, mask=in_c, other=0.0)
    first = tl.full([BLOCK_C], 1.0, tl.float32)
    second = tl.full([BLOCK_C], 1.0, tl.float32)
    if GLOBAL_CHANNEL:
        at_factor = (image * RANK + (parts % RANK)[:, None]) * channels + c[None, :]
        factors = tl.load(query_factors + at_factor, mask=in_c[None, :], other=0.0)
        factors = two_parts(factors, (parts < RANK)[:, None], rows.dtype.element_ty)
        first = tl.load(query_factors + image * channels * RANK + c, mask=in_c, other=1.0)
        second = tl.load(query_factors + image * channels * RANK + channels + c, mask=in_c, other=1.0)
        sum_factors = tl.zeros([2 * RANK, BLOCK_C], tl.float32)
    sum_channel = tl.zeros([BLOCK_C], tl.float32)
    sum_logs = tl.zeros([BLOCK_C], tl.float32)
    sum_global = tl.zeros([BLOCK_C], tl.float32)
    sum_input = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, n, BLOCK_N):
        places = start + tl.arange(0, BLOCK_N)
        in_n = places < n
        at_row = image * n + places
        inside = in_n[:, None] & in_c[None, :]
        at = at_row[:, None] * channels + c[None, :]
        spatial_gain = tl.full([BLOCK_N, BLOCK_C], 1.0, tl.float32)
        if GLOBAL_SPATIAL:
            spatial_gain += tl.load(spatial + at, mask=inside, other=0.0).to(tl.float32)
        channel = tl.full([BLOCK_N, BLOCK_C], 1.0, tl.float32)
        if GLOBAL_CHANNEL:
            sums = tl.load(weighted + at_row[None, :] * RANK + (parts % RANK)[:, None], mask=in_n[None, :], other=0.0)
            sums = two_parts(sums, (parts < RANK)[:, None], rows.dtype.element_ty)
            channel = _mixed_channels(weighted, first, second, at_row, in_n, BLOCK_N, BLOCK_C)
        there = tl.full([BLOCK_N], 1.0, tl.float32)
        if LOCAL_SPATIAL:
            there += tl.load(position_gain + at_row, mask=in_n, other=0.0)
        f = tl.load(rows + at, mask=inside, other=0.0).to(tl.float32)
        stream = channel * spatial_gain
        local = (1.0 + local_channel)[None, :] * there[:, None]
        gain = fusion_local * local + fusion_global * stream + fusion_input
        attended = f * gain
        logs = tl.log2(tl.maximum(attended, EPS))
        sum_logs += tl.sum(tl.where(inside, tl.exp2(p * logs) * (logs - log_y[None, :]), 0.0), 0)
        d_attended = tl.where(inside & (attended >= EPS), scale[None, :] * tl.exp2((p - 1.0) * logs), 0.0)
        tl.store(d_rows + at, (d_attended * gain).to(d_rows.dtype.element_ty), mask=inside)
        d_gain = d_attended * f
        sum_input += tl.sum(d_gain, 0)
        sum_global += tl.sum(d_gain * stream, 0)
        sum_channel += tl.sum(d_gain * there[:, None], 0)
        if LOCAL_SPATIAL:
            d_there = tl.sum(d_gain * (1.0 + local_channel)[None, :], 1) * fusion_local
            tl.store(d_position + (image * tl.num_programs(0) + block) * n + places, d_there, mask=in_n)
        d_stream = d_gain * fusion_global
        if GLOBAL_CHANNEL:
            d_mix = (d_stream * spatial_gain).to(factors.dtype)
            sum_factors = add_product(sum_factors, sums, d_mix, PRECISION)
            d_sums = product(d_mix, tl.trans(factors), PRECISION)
            at_sums = ((image * tl.num_programs(0) + block) * n + places[:, None]) * RANK + ranks[None, :]
            tl.store(d_weighted + at_sums, sum_of_column_parts(d_sums), mask=in_n[:, None])
        if GLOBAL_SPATIAL:
            tl.store(d_spatial + at, (d_stream * channel).to(d_spatial.dtype.element_ty), mask=inside)
    at_c = (image * channels + c) * 4
    tl.store(sums_out + at_c, sum_channel * (1.0 + local_channel), mask=in_c)
    tl.store(sums_out + at_c + 1, sum_global, mask=in_c)
    tl.store(sums_out + at_c + 2, sum_input, mask=in_c)
    tl.store(sums_out + at_c + 3, sum_logs * LN_2, mask=in_c)
    if LOCAL_CHANNEL:
        tl.store(d_channel + image * channels + c, sum_channel * fusion_local, mask=in_c)
    if GLOBAL_CHANNEL:
        at_factor = (image * RANK + ranks[:, None]) * channels + c[None, :]
        tl.store(d_factors + at_factor, sum_of_row_parts(sum_factors), mask=in_c[None, :])


Optional = Tensor | None


def forward(
    rows: Tensor, channel_gain: Optional, position_gain: Optional, weighted: Optional, query_factors: Optional,
    spatial: Optional, fusion: Tensor, exponent: Tensor, eps: float,
) -> Tensor:  # fmt: skip
    """Computes `glam.kernels.combination.combine_and_pool`; all arguments must be contiguous."""
    batch, n, channels = rows.shape
    out = torch.empty((batch, channels), device=rows.device, dtype=torch.float32)
    block = 64
    _forward[(triton.cdiv(channels, block), batch)](
        rows, channel_gain, position_gain, weighted, query_factors, spatial, fusion, exponent, out,
        n, channels, EPS=eps, **_switches(channel_gain, position_gain, weighted, spatial),
        BLOCK_N=64, BLOCK_C=block, num_warps=4, num_stages=2,
    )  # fmt: skip
    return out


def backward(
    eps: float, d_out: Tensor, out: Tensor,
    rows: Tensor, channel_gain: Optional, position_gain: Optional, weighted: Optional, query_factors: Optional,
    spatial: Optional, fusion: Tensor, exponent: Tensor,
) -> tuple[Tensor, Optional, Optional, Optional, Optional, Optional, Tensor, Tensor]:  # fmt: skip
    """Computes the gradients of the arguments of `forward`, in their order and without ``eps``; None for None.

    Args:
        eps: argument of `forward`.
        d_out: gradient of the result, (b, c).
        out: result of `forward`, (b, c).
        rows: argument of `forward`, (b, n, c).
        channel_gain: argument of `forward`, (b, c), or None.
        position_gain: argument of `forward`, (b, n), or None.
        weighted: argument of `forward`, (b, n, 8), or None.
        query_factors: argument of `forward`, (b, 8, c), or None.
        spatial: argument of `forward`, (b, n, c), or None.
        fusion: argument of `forward`, (3,).
        exponent: argument of `forward`, ().
    """
    batch, n, channels = rows.shape
    block = 32
    blocks = triton.cdiv(channels, block)

    def single(*shape: int) -> Tensor:
        return torch.empty(shape, device=rows.device, dtype=torch.float32)

    d_rows = torch.empty_like(rows)
    d_channel = None if channel_gain is None else single(batch, channels)
    d_position = None if position_gain is None else single(batch, blocks, n)
    d_weighted = None if weighted is None else single(batch, blocks, n, 8)
    d_factors = None if query_factors is None else torch.empty_like(query_factors)
    d_spatial = None if spatial is None else torch.empty_like(spatial)
    sums = single(batch, channels, 4)
    _backward[(blocks, batch)](
        rows, channel_gain, position_gain, weighted, query_factors, spatial, fusion, exponent, out, d_out.contiguous(),
        d_rows, d_channel, d_position, d_weighted, d_factors, d_spatial, sums,
        n, channels, EPS=eps, **_switches(channel_gain, position_gain, weighted, spatial),
        BLOCK_N=64, BLOCK_C=block, PRECISION=precision(rows.dtype), num_warps=4, num_stages=3,
    )  # fmt: skip
    # y = (sum x^p / n)^(1/p), so dy/dp = y / p sum(x^p (ln x - ln y)) / sum(x^p).
    d_exponent = (d_out * out.pow(1 - exponent) * sums[..., 3]).sum() / (n * exponent)
    return (
        d_rows,
        d_channel,
        None if d_position is None else d_position.sum(dim=1),
        None if d_weighted is None else d_weighted.sum(dim=1),
        d_factors,
        d_spatial,
        sums[..., :3].sum(dim=(0, 1)),
        d_exponent,
    )


def _switches(
    channel_gain: Optional, position_gain: Optional, weighted: Optional, spatial: Optional
) -> dict[str, bool]:
    return {
        "LOCAL_CHANNEL": channel_gain is not None,
        "LOCAL_SPATIAL": position_gain is not None,
        "GLOBAL_CHANNEL": weighted is not None,
        "GLOBAL_SPATIAL": spatial is not None,
    }
