"""Convolutions with TensorFlow's "SAME" padding, for networks whose weights were trained with it.

timm's form computes the padding in floating point, which symbolic shapes do not support well (exporting a network takes
hours), and it copies the image to pad it. This form uses integers, and does not copy.
"""

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Convolution whose output has ``ceil(side / stride)`` positions per side; an odd pixel of padding goes at the end.

    The arguments are those of `torch.nn.Conv2d`; ``padding`` is ignored.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Computes the convolution.

        Args:
            input: feature map, (b, c, h, w).

        Returns:
            Feature map, (b, c', ceil(h / stride), ceil(w / stride)).
        """
        (top, bottom, rows), (left, right, columns) = (self._padding(input, i) for i in (0, 1))
        if torch.compiler.is_compiling():
            padded = F.pad(input, [left, right, top, bottom])
            return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        # `F.conv2d` pads both sides equally without a copy, so pad by a few strides more and drop the first outputs.
        skipped = [
            -((before - after) // step)
            for before, after, step in zip((top, left), (bottom, right), self.stride, strict=True)
        ]
        padding = [before + n * step for before, n, step in zip((top, left), skipped, self.stride, strict=True)]
        padded_output = F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return padded_output[:, :, skipped[0] : skipped[0] + rows, skipped[1] : skipped[1] + columns]

    def _padding(self, input: Tensor, axis: int) -> tuple[int, int, int]:
        """Returns the pixels before and after, and the length of the output, along h (axis 0) or w (axis 1)."""
        side, stride = input.shape[2 + axis], self.stride[axis]
        out = (side + stride - 1) // stride
        total = (out - 1) * stride + (self.kernel_size[axis] - 1) * self.dilation[axis] + 1 - side
        total = total if torch.compiler.is_compiling() else max(total, 0)
        return total // 2, total - total // 2, out


def use_same_padding(net: nn.Module) -> None:
    """Replaces timm's ``Conv2dSame`` modules by `SameConv2d` in place, with the same weights and names.

    Args:
        net: network to change.
    """
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
