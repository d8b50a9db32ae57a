"""Side-by-side dilated convolutions to one channel, applied as one product and a few shifted sums.

The local spatial branch of GLAM, as printed, is linear: it equals one 1x1 and several dilated 3x3 kernels from c
channels to one. All their taps are first taken at every position by a single (taps, c) x (c, hw) product, then shifted
into place.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


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
    taps = torch.cat([point.unsqueeze(0), kernels.permute(0, 2, 3, 1).flatten(0, 2)])  # (1 + 9n, c)
    responses = F.conv2d(features, taps[:, :, None, None])  # (b, 1 + 9n, h, w): what each tap sees where it stands
    height, width = responses.shape[-2:]
    total = responses[:, 0]
    for i, dilation in enumerate(dilations):
        padded = F.pad(responses[:, 1 + 9 * i : 10 + 9 * i], [dilation] * 4)
        for tap in range(9):
            top, left = (tap // 3) * dilation, (tap % 3) * dilation
            total = total + padded[:, tap, top : top + height, left : left + width]
    return total.unsqueeze(1)


def dilated_taps_dense(features: Tensor, point: Tensor, kernels: Tensor, dilations: Sequence[int]) -> Tensor:
    """The plain form of `dilated_taps`: one convolution a kernel. Same arguments and result."""
    total = F.conv2d(features, point[None, :, None, None])
    for kernel, dilation in zip(kernels, dilations, strict=True):
        total = total + F.conv2d(features, kernel.unsqueeze(0), padding=dilation, dilation=dilation)
    return total
