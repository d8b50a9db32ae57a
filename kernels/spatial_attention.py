"""Global spatial attention: every position is a weighted mean of the values at all positions, with no 1/sqrt(r)
scale."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.kernels import dispatch

BUILT_IN_WIDTH = 256
"""Widest rows that PyTorch's own fused attention takes on a GPU."""

TRITON_WIDTH = 512
"""Widest rows whose blocks fit on the chip in `_attention`: at 1024 two of them in bfloat16 are 384 KiB, an H100 has
228 KiB."""


def spatial_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over positions that never writes the (n, n) map.

    On a GPU PyTorch's fused kernels do it up to `BUILT_IN_WIDTH`, a Triton kernel up to `TRITON_WIDTH`, and PyTorch's
    other kernels, which may write the map, above that.

    Args:
        query: (b, n, r), a row for each position.
        key: (b, n, r).
        value: (b, n, r).

    Returns:
        (b, n, r): row j is ``sum_i softmax_i(key_i . query_j) value_i``.
    """
    if dispatch.plain():
        return spatial_attention_dense(query, key, value)
    narrowest = BUILT_IN_WIDTH + 1 if query.is_cuda else 1
    if dispatch.triton_for(query) and narrowest <= query.shape[-1] <= TRITON_WIDTH:
        query, key, value = (rows if rows.stride(-1) == 1 else rows.contiguous() for rows in (query, key, value))
        if not torch.is_grad_enabled():
            from glam.kernels import _attention

            return _attention.forward(query, key, value)[0]
        mixed: Tensor = _WideAttention.apply(query, key, value)
        return mixed
    q, k, v = (rows.unsqueeze(1) for rows in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)


def spatial_attention_dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The plain form of `spatial_attention`: writes the (b, n, n) map. Same arguments and result."""
    attention = (key @ query.transpose(1, 2)).softmax(dim=1)  # (b, key n, query n)
    return attention.transpose(1, 2) @ value


class _WideAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        from glam.kernels import _attention

        out, log_sum = _attention.forward(query, key, value)
        ctx.save_for_backward(query, key, value, out, log_sum)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        from glam.kernels import _attention

        return _attention.backward(d_out, *ctx.saved_tensors)
