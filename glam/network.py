"""The descriptor network: backbone, GLAM, GeM, and a fully connected layer."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glam.attention import GLAM
from glam.backbone import Backbone
from glam.kernels import dispatch
from glam.pooling import GeM
from glam.pooling_fusion import attend_and_pool


@dataclass(frozen=True)
class Architecture:
    """Settings that define a `DescriptorNetwork`, without its weights; stored in every checkpoint and model file.

    Examples:
        >>> architecture = glam.Architecture("resnet50", dim=512, glam={"reduction": 256})
        >>> architecture.dim
        512

    Attributes:
        backbone: name of a timm model, such as ``resnet50``.
        dim: length of the descriptor; None to use the pooled features without a fully connected layer.
        glam: arguments of `GLAM` other than ``channels``, such as ``{"reduction": 256}``; None for no attention.
        gem_p: initial exponent of GeM.
        dropout: fraction of the descriptor's entries that are dropped in training, in [0, 1).
        whitening: length of the descriptor after whitening, see `glam.eval.whitening`; None for no whitening.
        stride: image pixels per position of the feature map, 8 or 16 (the last stages are dilated); None for the
            stride of the backbone, usually 32.
    """

    backbone: str
    dim: int | None = 512
    glam: dict[str, Any] | None = field(default_factory=dict)
    gem_p: float = 3.0
    dropout: float = 0.0
    whitening: int | None = None
    stride: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as a dictionary of JSON types."""
        return asdict(self)


class DescriptorNetwork(nn.Module):
    """Network that maps images, (b, 3, h, w), to descriptors, (b, dim), float32, of unit length.

    To describe image files, use `glam.Model`, which also decodes, resizes, and normalizes them.

    Examples:
        >>> network = glam.DescriptorNetwork(glam.Architecture("resnet18", dim=128)).eval()
        >>> network(torch.rand(2, 3, 224, 224)).shape
        torch.Size([2, 128])

    Args:
        architecture: settings of the network.
        pretrained: whether the backbone starts from ImageNet weights, or the file of its weights; all other weights are
            random.

    Attributes:
        architecture: settings of the network.
        backbone: `glam.backbone.Backbone`, the feature map.
        glam: `GLAM`, or an identity without attention.
        pool: `GeM`.
        head: fully connected layer with batch norm and dropout (`Head`), or an identity.
        whitening: linear layer, or an identity.
        dim: length of the descriptor.
        depthwise: whether the backbone has grouped convolutions.

    Raises:
        GlamError: timm has no such backbone, it takes images of one size only, or its weights cannot be loaded.
    """

    def __init__(self, architecture: Architecture, *, pretrained: bool | Path = False) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = Backbone(architecture.backbone, pretrained=pretrained, stride=architecture.stride)
        self.depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in self.backbone.modules())
        channels = self.backbone.channels
        self.glam = nn.Identity() if architecture.glam is None else GLAM(channels, **architecture.glam)
        self.pool = GeM(architecture.gem_p)
        self.dim = channels if architecture.dim is None else architecture.dim
        self.head = (
            nn.Identity() if architecture.dim is None else Head(channels, architecture.dim, architecture.dropout)
        )
        self.whitening: nn.Module = nn.Identity()
        if architecture.whitening is not None:
            self.whitening = nn.Linear(self.dim, architecture.whitening)
            self.dim = architecture.whitening

    def forward(self, images: Tensor) -> Tensor:
        """Computes the descriptors of a batch of images.

        Args:
            images: images of one size, (b, 3, h, w), normalized with the backbone's mean and standard deviation.

        Returns:
            Descriptors, (b, dim), float32, of unit length.
        """
        return self.whitened(self.unwhitened(images))

    def unwhitened(self, images: Tensor) -> Tensor:
        """Computes descriptors before whitening; those of several scales are averaged at this point.

        Args:
            images: normalized images of one size, (b, 3, h, w).

        Returns:
            Descriptors, (b, n), float32, of unit length.
        """
        return F.normalize(self.head(self.pooled(images)).float(), dim=1)

    def whitened(self, descriptors: Tensor) -> Tensor:
        """Applies the whitening to descriptors; without whitening, returns them unchanged.

        Args:
            descriptors: result of `unwhitened`, (b, n).

        Returns:
            Descriptors, (b, dim), of unit length.
        """
        return descriptors if self.architecture.whitening is None else F.normalize(self.whitening(descriptors), dim=1)

    def to_device(self, device: torch.device) -> "DescriptorNetwork":
        """Moves the network to a device, in the memory layout that is fastest there (`layout`).

        Args:
            device: target device.

        Returns:
            The network itself.
        """
        return self.to(device=device, memory_format=self.layout(device))  # type: ignore[call-overload, no-any-return]

    def layout(self, device: torch.device) -> torch.memory_format:
        """Returns the memory layout of images and weights: channels-last, except for depthwise convolutions on a GPU.

        On a GPU, cuDNN spends seconds on each new shape of a depthwise convolution in channels-last bfloat16, and
        images have many shapes. PyTorch runs a convolution in channels-last if its input or its weight is, so both must
        have the same layout.

        Args:
            device: device that the network runs on.
        """
        return torch.contiguous_format if self.depthwise and device.type == "cuda" else torch.channels_last

    def pooled(self, images: Tensor) -> Tensor:
        """Computes the pooled features, the input of the head.

        Args:
            images: normalized images of one size, (b, 3, h, w).

        Returns:
            Pooled features, (b, channels), float32, of unit length.
        """
        features = self.backbone(images)
        if isinstance(self.glam, GLAM) and dispatch.triton_for(features):
            return F.normalize(attend_and_pool(self.glam, self.pool, features), dim=1)
        return F.normalize(self.pool(self.glam(features)), dim=1)


class Head(nn.Sequential):
    """Fully connected layer, batch norm, and dropout: (b, channels) to (b, dim).

    Args:
        channels: number of channels of the pooled features.
        dim: length of the descriptor.
        dropout: fraction of the entries that are dropped in training, in [0, 1).
    """

    def __init__(self, channels: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, dim)
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = nn.Dropout(dropout)
