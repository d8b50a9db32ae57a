"""Global spatial attention: each position becomes a weighted mean of the values at all positions, without a scale."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.kernels import dispatch

BUILT_IN_WIDTH = 256
"""Maximum width r for which PyTorch has fused attention on a GPU."""

TRITON_WIDTH = 512
"""Maximum width r of the Triton kernel, whose blocks must fit in shared memory: at 1,024, two bfloat16 blocks take 384
KiB, and an H100 has 228 KiB."""


def spatial_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Computes attention over positions without writing the (n, n) map.

    On a GPU, PyTorch's fused kernels run up to a width of `BUILT_IN_WIDTH`, and a Triton kernel up to `TRITON_WIDTH`.
    For wider rows PyTorch's other kernels run, which may write the map.

    Args:
        query: query of each position, (b, n, r).
        key: key of each position, (b, n, r), of the same dtype.
        value: value of each position, (b, n, r), of the same dtype.

    Returns:
        (b, n, r); row j is ``sum_i softmax_i(key_i . query_j) value_i``.
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
    """Plain form of `spatial_attention`, which writes the (b, n, n) map.

    Args:
        query: query of each position, (b, n, r).
        key: key of each position, (b, n, r), of the same dtype.
        value: value of each position, (b, n, r), of the same dtype.

    Returns:
        (b, n, r); row j is ``sum_i softmax_i(key_i . query_j) value_i``.
    """
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
