"""Residual networks with each convolution and what follows it in one call of cuDNN: bias, shortcut, ReLU.

Done one by one, each of these reads and writes the whole feature map, which takes a residual network on a GPU longer
than its products: ResNet-101 describes more than twice as many images a second so (docs/speed.md).
"""

import copy

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

MAX_RELATIVE_ERROR = 0.02
"""Largest difference of fused features, as a share of their length; in half precision it is some thousandths."""


class ConvReLU(nn.Module):
    """A convolution with its bias, the sum with a shortcut where there is one, and ReLU.

    Args:
        conv: with a bias; on a GPU when it is called.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """(b, c, h, w), and a shortcut of the result's shape, to the result."""
        conv = self.conv
        assert not isinstance(conv.padding, str)
        settings = conv.stride, conv.padding, conv.dilation, conv.groups
        if shortcut is None:
            return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *settings)
        return torch.cudnn_convolution_add_relu(x, conv.weight, shortcut, 1.0, conv.bias, *settings)


class Residual(nn.Module):
    """A residual block of convolutions.

    Args:
        convs: in order.
        downsample: what the shortcut goes through; its bias is added where the last convolution's is.
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
        """(b, c, h, w) to (b, c', h', w')."""
        fused: Tensor = self.last(self.first(x), self.downsample(x))
        return fused


@torch.no_grad()
def fuse_resnet(net: nn.Module) -> nn.Module:
    """A copy of a residual network with its convolutions fused; the network itself if it is another or would change.

    Args:
        net: on a GPU, in evaluation mode, its batch norms folded (`glam.inference.optimize.fold_batch_norms`).
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
    """Fuses the first convolution of a network with its ReLU, in place; a stem of several stays as it is."""
    conv = net.conv1
    is_plain = isinstance(net.bn1, nn.Identity) and isinstance(net.act1, nn.ReLU)
    if is_plain and isinstance(conv, nn.Conv2d) and _plain(conv):
        net.add_module("conv1", ConvReLU(conv))
        net.add_module("act1", nn.Identity())


def fusible(block: BasicBlock | Bottleneck) -> bool:
    """Whether a block is nothing but convolutions with biases, each before a ReLU, and a shortcut."""
    parts = dict(block.named_children())
    downsample = parts.pop("downsample", None)
    shortcut = () if downsample is None else tuple(downsample.children())
    through = [part for part in shortcut if not isinstance(part, nn.Identity | nn.AvgPool2d)]
    return all(_plain(part) or isinstance(part, nn.Identity | nn.ReLU) for part in parts.values()) and (
        all(_plain(part) for part in through) and len(through) <= 1
    )


def _plain(part: nn.Module) -> bool:
    """Whether it is a convolution that cuDNN fuses."""
    return (
        isinstance(part, nn.Conv2d)
        and part.bias is not None
        and part.groups == 1
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
    )
