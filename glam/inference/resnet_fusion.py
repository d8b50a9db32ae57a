"""Fused residual networks: convolution, bias, shortcut, and ReLU in one call of cuDNN.

As separate operations, bias, shortcut, and ReLU each read and write the full feature map, which takes a GPU longer than
the convolutions themselves. Fusion more than doubles the images per second of ResNet-101 (docs/lab/speed.md).
"""

import copy

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

MAX_RELATIVE_ERROR = 0.02
"""Maximum norm of the difference between fused and unfused features, relative to the norm of the features. In half
precision it is a few thousandths, so this leaves a margin."""


class ConvReLU(nn.Module):
    """A convolution with bias, an optional shortcut added to its result, and ReLU. Runs on a GPU only.

    Args:
        conv: convolution with a bias.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Computes ``relu(conv(x) + shortcut)``.

        Args:
            x: feature map, (b, c, h, w).
            shortcut: feature map with the shape of the result, (b, c', h', w'); None for no shortcut.

        Returns:
            Feature map, (b, c', h', w').
        """
        conv = self.conv
        assert not isinstance(conv.padding, str)
        settings = conv.stride, conv.padding, conv.dilation, conv.groups
        if shortcut is None:
            return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *settings)
        return torch.cudnn_convolution_add_relu(x, conv.weight, shortcut, 1.0, conv.bias, *settings)


class Residual(nn.Module):
    """A residual block of fused convolutions.

    Args:
        convs: convolutions of the block with their biases, in order.
        downsample: module of the shortcut; None for an identity. Its bias moves to the last convolution.
    """

    def __init__(self, convs: list[nn.Conv2d], downsample: nn.Module | None) -> None:
        super().__init__()
        *first, last = (ConvReLU(conv) for conv in convs)
        self.first = nn.Sequential(*first)
        self.last = last
        self.downsample = nn.Identity() if downsample is None else downsample
        for part in self.downsample.children():
            if isinstance(part, nn.Conv2d) and part.bias is not None and last.conv.bias is not None:
                last.conv.bias.data.add_(part.bias.data)
                part.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """Computes the block.

        Args:
            x: feature map, (b, c, h, w).

        Returns:
            Feature map, (b, c', h', w').
        """
        fused: Tensor = self.last(self.first(x), self.downsample(x))
        return fused


@torch.no_grad()
def fuse_resnet(net: nn.Module) -> nn.Module:
    """Returns a copy of a residual network with fused convolutions.

    Args:
        net: network on a GPU, in evaluation mode, with folded batch norms (`glam.inference.optimize.fold_batch_norms`).

    Returns:
        The copy, or ``net`` itself if it is not a ResNet or if fusion would change its result (`MAX_RELATIVE_ERROR`).
    """
    if not isinstance(net, ResNet):
        return net
    fused = copy.deepcopy(net)
    fuse_stem(fused)
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BasicBlock | Bottleneck) and fusible(child):
                convs = [part for part in child.children() if isinstance(part, nn.Conv2d)]
                setattr(parent, name, Residual(convs, child.downsample))
    parameter = next(net.parameters())
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(parameter)
    expected = net.forward_features(images).float()
    error = torch.linalg.vector_norm(fused.forward_features(images).float() - expected)
    return fused if error <= MAX_RELATIVE_ERROR * torch.linalg.vector_norm(expected) else net


def fuse_stem(net: ResNet) -> None:
    """Fuses the first convolution of a network with its ReLU, in place. A stem of several convolutions is unchanged.

    Args:
        net: network with folded batch norms.
    """
    conv = net.conv1
    is_plain = isinstance(net.bn1, nn.Identity) and isinstance(net.act1, nn.ReLU)
    if is_plain and isinstance(conv, nn.Conv2d) and _plain(conv):
        net.add_module("conv1", ConvReLU(conv))
        net.add_module("act1", nn.Identity())


def fusible(block: BasicBlock | Bottleneck) -> bool:
    """Returns whether a block consists of convolutions with biases, ReLUs, and a shortcut, and of nothing else.

    Args:
        block: block with folded batch norms.
    """
    parts = dict(block.named_children())
    downsample = parts.pop("downsample", None)
    shortcut = () if downsample is None else tuple(downsample.children())
    through = [part for part in shortcut if not isinstance(part, nn.Identity | nn.AvgPool2d)]
    return all(_plain(part) or isinstance(part, nn.Identity | nn.ReLU) for part in parts.values()) and (
        all(_plain(part) for part in through) and len(through) <= 1
    )


def _plain(part: nn.Module) -> bool:
    """Returns whether a module is a convolution that cuDNN can fuse."""
    return (
        isinstance(part, nn.Conv2d)
        and part.bias is not None
        and part.groups == 1
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
    )
