"""Parallel dilated convolutions with one output channel, computed as one matrix product and shifted sums.

The local spatial branch of GLAM is linear: it equals the sum of a 1x1 convolution and several dilated 3x3 convolutions
from c channels to one. A single (hw, c) x (c, taps) product computes the response of each kernel weight (tap) at each
position; the responses are then shifted into place and summed.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.kernels import dispatch


def dilated_taps(features: Tensor, point: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """Computes the sum of a 1x1 and of dilated 3x3 convolutions with one output channel, zero-padded.

    Args:
        features: feature map, (b, c, h, w).
        point: 1x1 kernel, (c,).
        kernels: one 3x3 kernel per dilation, (n, c, 3, 3).
        dilations: n dilations in positions.

    Returns:
        (b, 1, h, w).
    """
    if dispatch.plain():
        return dilated_taps_dense(features, point, kernels, dilations)
    height, width = features.shape[-2:]
    responses = F.conv2d(features, taps_of(point, kernels)[:, :, None, None])  # response of each tap at each position
    return shifted_sum(responses.flatten(2).transpose(1, 2), height, width, dilations).view(-1, 1, height, width)


def dilated_taps_dense(features: Tensor, point: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """Plain form of `dilated_taps`, which runs one convolution per kernel.

    Args:
        features: feature map, (b, c, h, w).
        point: 1x1 kernel, (c,).
        kernels: one 3x3 kernel per dilation, (n, c, 3, 3).
        dilations: n dilations in positions.

    Returns:
        (b, 1, h, w).
    """
    total = F.conv2d(features, point[None, :, None, None])
    for kernel, dilation in zip(kernels, dilations, strict=True):
        total = total + F.conv2d(features, kernel.unsqueeze(0), padding=dilation, dilation=dilation)
    return total


def taps_of(point: Tensor, kernels: Tensor) -> Tensor:
    """Joins the taps of all kernels as the rows of one matrix.

    Args:
        point: 1x1 kernel, (c,).
        kernels: n 3x3 kernels, (n, c, 3, 3).

    Returns:
        (1 + 9 n, c).
    """
    return torch.cat([point.unsqueeze(0), kernels.permute(0, 2, 3, 1).flatten(0, 2)])


def shifted_sum(responses: Tensor, height: int, width: int, dilations: Sequence[int]) -> Tensor:
    """Shifts the responses of the taps into place and sums them.

    Args:
        responses: response of each tap of `taps_of` at each position, (b, h * w, 1 + 9 n).
        height: h of the feature map.
        width: w of the feature map.
        dilations: n dilations in positions.

    Returns:
        (b, h * w), float32 from the Triton kernel, else of the dtype of ``responses``.
    """
    if dispatch.triton_for(responses):
        if not torch.is_grad_enabled():
            from glam.kernels import _taps

            return _taps.forward(responses, height, width, dilations)
        summed: Tensor = _ShiftedSum.apply(responses, height, width, tuple(dilations))
        return summed
    maps = responses.transpose(1, 2).unflatten(2, (height, width))  # type: ignore[no-untyped-call]
    total: Tensor = maps[:, 0]
    for i, dilation in enumerate(dilations):
        padded = F.pad(maps[:, 1 + 9 * i : 10 + 9 * i], [dilation] * 4)
        for tap in range(9):
            top, left = (tap // 3) * dilation, (tap % 3) * dilation
            total = total + padded[:, tap, top : top + height, left : left + width]
    return total.flatten(1)


class _ShiftedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, responses: Tensor, height: int, width: int, dilations: tuple[int, ...]) -> Tensor:
        from glam.kernels import _taps

        ctx.arguments = height, width, dilations, responses.dtype
        return _taps.forward(responses, height, width, dilations)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Any:
        from glam.kernels import _taps

        return _taps.backward(d_out, *ctx.arguments), None, None, None
