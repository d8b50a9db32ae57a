"""The descriptor network: backbone, GLAM, GeM, and a layer to the descriptor."""

from dataclasses import asdict, dataclass, field
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
    """Everything needed to build a `DescriptorNetwork` but its weights; stored in every checkpoint.

    Attributes:
        backbone: a timm model name.
        dim: length of the descriptor; None for the pooled features as they are.
        glam: arguments of `GLAM` but the channels, as {"reduction": 256, ...}; None for no attention.
        gem_p: exponent of GeM at the start.
        dropout: share of the descriptor's entries dropped in training.
        whitening: length of the descriptor after a whitening, see `glam.eval.whitening`; None for no whitening.
        stride: pixels of the image to a position of the feature map, 8 or 16: the last stages are dilated instead of
            going on in larger steps; None for the backbone's own, mostly 32.
    """

    backbone: str
    dim: int | None = 512
    glam: dict[str, Any] | None = field(default_factory=dict)
    gem_p: float = 3.0
    dropout: float = 0.0
    whitening: int | None = None
    stride: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


class DescriptorNetwork(nn.Module):
    """Images to descriptors: (b, 3, h, w) to (b, dim), float32, unit length.

    Args:
        architecture: what to build.
        pretrained: whether the backbone starts from its ImageNet weights.

    Attributes:
        backbone, glam, pool, head, whitening: the parts in order; ``glam``, ``head`` and ``whitening`` are identities
            where there are none.
        dim: length of the descriptor.
        depthwise: whether the backbone has grouped convolutions.
    """

    def __init__(self, architecture: Architecture, *, pretrained: bool = False) -> None:
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
        """(b, 3, h, w) normalized images of one size to (b, dim) descriptors."""
        return self.whitened(self.unwhitened(images))

    def unwhitened(self, images: Tensor) -> Tensor:
        """Descriptors before the whitening, of unit length: what is averaged over scales."""
        return F.normalize(self.head(self.pooled(images)).float(), dim=1)

    def whitened(self, descriptors: Tensor) -> Tensor:
        """What the whitening makes of descriptors, (b, n) to (b, dim), of unit length; they themselves without one."""
        return descriptors if self.architecture.whitening is None else F.normalize(self.whitening(descriptors), dim=1)

    def to_device(self, device: torch.device) -> "DescriptorNetwork":
        """Moves to a device, in the memory layout that its convolutions like there; returns itself."""
        return self.to(device=device, memory_format=self.layout(device))  # type: ignore[call-overload, no-any-return]

    def layout(self, device: torch.device) -> torch.memory_format:
        """Memory layout of images and weights on a device: channels-last, but for depthwise convolutions on a GPU.

        There cuDNN spends seconds on every new shape of a depthwise convolution in channels-last bfloat16, and images
        come in many shapes. An image in one layout turns the whole network to it, so both must agree.
        """
        return torch.contiguous_format if self.depthwise and device.type == "cuda" else torch.channels_last

    def pooled(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalized images to (b, channels), of unit length: what the head works on."""
        features = self.backbone(images)
        if isinstance(self.glam, GLAM) and dispatch.triton_for(features):
            return F.normalize(attend_and_pool(self.glam, self.pool, features), dim=1)
        return F.normalize(self.pool(self.glam(features)), dim=1)


class Head(nn.Sequential):
    """Fully connected layer, batch norm, dropout: (b, channels) to (b, dim)."""

    def __init__(self, channels: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, dim)
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = nn.Dropout(dropout)
