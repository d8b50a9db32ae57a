"""Combination of GLAM's streams, pooled by GeM without writing the attended map.

For position j and channel c of the feature map F:

    attended = F (w_l (1 + A_lc[c]) (1 + A_ls[j]) + w_g G_c[j, c] (1 + G_s[j, c]) + w)
    G_c = weighted @ query_factors              (see `glam.kernels.channel_attention`)
    pooled[c] = (mean_j max(attended, eps)^p)^(1/p)
"""

from typing import Any

import torch
from torch import Tensor

from glam.kernels import dispatch


def combine_and_pool(
    rows: Tensor,
    channel_gain: Tensor | None,
    position_gain: Tensor | None,
    weighted: Tensor | None,
    query_factors: Tensor | None,
    spatial: Tensor | None,
    fusion: Tensor,
    exponent: Tensor,
    eps: float,
) -> Tensor:
    """Combines the streams and pools the result.

    Args:
        rows: feature map F, one row per position, (b, n, c).
        channel_gain: A_lc, (b, c), float32; None without local channel attention.
        position_gain: A_ls, (b, n), float32; None without local spatial attention.
        weighted: channels summed by the powers of the key (`power_sums`), (b, n, 8), float32; None without global
            channel attention.
        query_factors: Q of `low_rank_factors`, (b, 8, c), float32; None without global channel attention.
        spatial: G_s, (b, n, c), of the dtype of ``rows``; None without global spatial attention.
        fusion: weights w_l, w_g, and w of the streams, (3,), float32.
        exponent: exponent p of GeM, (), float32.
        eps: values are clamped to at least this before pooling.

    Returns:
        Pooled features, (b, c), in at least single precision.
    """
    tensors = (rows, channel_gain, position_gain, weighted, query_factors, spatial, fusion, exponent)
    if not dispatch.triton_for(rows):
        return combine_and_pool_dense(*tensors, eps)
    inputs: Any = (*(None if x is None else x.contiguous() for x in tensors), eps)
    if not torch.is_grad_enabled():
        from glam.kernels import _combination

        return _combination.forward(*inputs)
    pooled: Tensor = _CombineAndPool.apply(*inputs)
    return pooled


def combine_and_pool_dense(
    rows: Tensor,
    channel_gain: Tensor | None,
    position_gain: Tensor | None,
    weighted: Tensor | None,
    query_factors: Tensor | None,
    spatial: Tensor | None,
    fusion: Tensor,
    exponent: Tensor,
    eps: float,
) -> Tensor:
    """Plain form of `combine_and_pool`, which writes every map.

    Args:
        rows: feature map F, one row per position, (b, n, c).
        channel_gain: A_lc, (b, c), float32; None without local channel attention.
        position_gain: A_ls, (b, n), float32; None without local spatial attention.
        weighted: channels summed by the powers of the key (`power_sums`), (b, n, 8), float32; None without global
            channel attention.
        query_factors: Q of `low_rank_factors`, (b, 8, c), float32; None without global channel attention.
        spatial: G_s, (b, n, c), of the dtype of ``rows``; None without global spatial attention.
        fusion: weights w_l, w_g, and w of the streams, (3,), float32.
        exponent: exponent p of GeM, (), float32.
        eps: values are clamped to at least this before pooling.

    Returns:
        Pooled features, (b, c), in at least single precision.
    """
    local = rows.new_ones(1)
    if channel_gain is not None:
        local = local * (1 + channel_gain[:, None, :])
    if position_gain is not None:
        local = local * (1 + position_gain[:, :, None])
    stream = rows.new_ones(1)
    if weighted is not None and query_factors is not None:
        stream = (weighted @ query_factors).to(rows.dtype)
    if spatial is not None:
        stream = stream * (1 + spatial)
    attended = rows * (fusion[0] * local + fusion[1] * stream + fusion[2])
    single = torch.promote_types(attended.dtype, torch.float32)
    powered = attended.to(single).clamp(min=eps).pow(exponent)
    return powered.mean(dim=1).pow(1.0 / exponent)


class _CombineAndPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        from glam.kernels import _combination

        out = _combination.forward(*inputs)
        ctx.eps = inputs[-1]
        ctx.save_for_backward(out, *inputs[:-1])
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        from glam.kernels import _combination

        return *_combination.backward(ctx.eps, d_out, *ctx.saved_tensors), None
