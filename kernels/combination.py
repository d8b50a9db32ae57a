"""GLAM's streams put together and pooled by GeM, without the attended map ever being written.

For a position j and a channel c, with F the feature map:

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
    """Pooled features of the fused streams. An attention that is None leaves its stream as it was before it.

    Args:
        rows: (b, n, c), the feature map F, a row for each position.
        channel_gain: (b, c) single precision, A_lc.
        position_gain: (b, n) single precision, A_ls.
        weighted: (b, n, 8) single precision, the channels summed by the key's powers.
        query_factors: (b, 8, c) single precision, the query's powers over the normalizer.
        spatial: (b, n, c), G_s.
        fusion: (3,) single precision: w_l, w_g, w.
        exponent: () single precision, p.
        eps: smallest value that is pooled.

    Returns:
        (b, c), single precision.
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
    """The plain form of `combine_and_pool`: writes every map. Same arguments and result."""
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
