"""Side-by-side dilated convolutions to one channel, applied as one product and a few shifted sums.

The local spatial branch of GLAM, as printed, is linear: it equals one 1x1 and several dilated 3x3 kernels from c
channels to one. All their taps are first taken at every position by a single (hw, c) x (c, taps) product, then shifted
into place.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.kernels import dispatch


def dilated_taps(features: Tensor, point: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """Sum of a 1x1 convolution and of dilated 3x3 convolutions, each to one channel, zero padded.

    Args:
        features: (b, c, h, w).
        point: (c,), the 1x1 kernel.
        kernels: (n, c, 3, 3), one 3x3 kernel a dilation.
        dilations: n dilations in positions.

    Returns:
        (b, 1, h, w).
    """
    if dispatch.plain():
        return dilated_taps_dense(features, point, kernels, dilations)
    height, width = features.shape[-2:]
    responses = F.conv2d(features, taps_of(point, kernels)[:, :, None, None])  # what each tap sees where it stands
    return shifted_sum(responses.flatten(2).transpose(1, 2), height, width, dilations).view(-1, 1, height, width)


def dilated_taps_dense(features: Tensor, point: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """The plain form of `dilated_taps`: one convolution a kernel. Same arguments and result."""
    total = F.conv2d(features, point[None, :, None, None])
    for kernel, dilation in zip(kernels, dilations, strict=True):
        total = total + F.conv2d(features, kernel.unsqueeze(0), padding=dilation, dilation=dilation)
    return total


def taps_of(point: Tensor, kernels: Tensor) -> Tensor:
    """(1 + 9 n, c): a 1x1 kernel, (c,), and n 3x3 kernels, (n, c, 3, 3), as the rows of one matrix."""
    return torch.cat([point.unsqueeze(0), kernels.permute(0, 2, 3, 1).flatten(0, 2)])


def shifted_sum(responses: Tensor, height: int, width: int, dilations: Sequence[int]) -> Tensor:
    """The sum over taps, each response taken from the place that its tap looks at.

    Args:
        responses: (b, h * w, 1 + 9 n), what each row of `taps_of` sees where it stands.
        height: of the feature map.
        width: of the feature map.
        dilations: n dilations in positions.

    Returns:
        (b, h * w), in single precision where the kernel runs, else of the dtype of ``responses``.
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
