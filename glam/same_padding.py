"""Convolutions padded as TensorFlow pads them ("SAME"), in integer arithmetic, for networks whose weights want it.

timm's own computes the padding in floating point, which symbolic shapes cannot see through (an export of a whole
network takes hours), and copies the image to pad it.
"""

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ``ceil(side / stride)`` positions a side; the odd pixel of padding goes last."""

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w) to (b, c', ceil(h / stride), ceil(w / stride))."""
        (top, bottom, rows), (left, right, columns) = (self._padding(input, i) for i in (0, 1))
        if torch.compiler.is_compiling():
            padded = F.pad(input, [left, right, top, bottom])
            return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        # Padded alike on both sides by whole strides more, no copy is needed: the first outputs are left out instead.
        skipped = [
            -((before - after) // step)
            for before, after, step in zip((top, left), (bottom, right), self.stride, strict=True)
        ]
        padding = [before + n * step for before, n, step in zip((top, left), skipped, self.stride, strict=True)]
        whole = F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return whole[:, :, skipped[0] : skipped[0] + rows, skipped[1] : skipped[1] + columns]

    def _padding(self, input: Tensor, axis: int) -> tuple[int, int, int]:
        """Pixels before and after, and the length of the output, along h (0) or w (1)."""
        side, stride = input.shape[2 + axis], self.stride[axis]
        out = (side + stride - 1) // stride
        total = (out - 1) * stride + (self.kernel_size[axis] - 1) * self.dilation[axis] + 1 - side
        total = total if torch.compiler.is_compiling() else max(total, 0)
        return total // 2, total - total // 2, out


def use_same_padding(net: nn.Module) -> None:
    """Puts `SameConv2d` in the place of timm's form of it, with the same weights under the same names."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv2dSame) and all(
                k >= s for k, s in zip(child.kernel_size, child.stride, strict=True)
            ):
                conv = SameConv2d(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]
                    child.stride,  # type: ignore[arg-type]
                    dilation=child.dilation,  # type: ignore[arg-type]
                    groups=child.groups,
                    bias=child.bias is not None,
                )
                conv.weight, conv.bias = child.weight, child.bias
                setattr(parent, name, conv)
