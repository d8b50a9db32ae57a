"""The descriptor network: backbone, attention (GLAM), pooling (GeM), and a fully connected layer."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glam.attention import ATTENTIONS, NoAttention
from glam.backbone import Backbone
from glam.errors import GlamError
from glam.pooling import POOLINGS
from glam.pooling_fusion import attended_and_pooled


@dataclass(frozen=True)
class Architecture:
    """Settings that define a `DescriptorNetwork`, without its weights; stored in every checkpoint and model file.

    Examples:
        >>> architecture = glam.Architecture("resnet50", dim=512, attention={"name": "glam", "reduction": 256})
        >>> architecture.dim
        512

    Attributes:
        backbone: name of a timm model, such as ``resnet50``.
        dim: length of the descriptor; None to use the pooled features without a fully connected layer.
        attention: ``name`` in `glam.attention.ATTENTIONS`, and its options, such as
            ``{"name": "glam", "reduction": 256}``; None for no attention.
        pooling: ``name`` in `glam.pooling.POOLINGS`, and its options, such as ``{"name": "gem", "p": 3.0}``.
        dropout: fraction of the descriptor's entries that are dropped in training, in [0, 1).
        whitening: length of the descriptor after whitening, see `glam.eval.whitening`; None for no whitening.
        stride: image pixels per position of the feature map, 8 or 16 (the last stages are dilated); None for the
            stride of the backbone, usually 32.
    """

    backbone: str
    dim: int | None = 512
    attention: dict[str, Any] | None = field(default_factory=lambda: {"name": "glam"})
    pooling: dict[str, Any] = field(default_factory=lambda: {"name": "gem"})
    dropout: float = 0.0
    whitening: int | None = None
    stride: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as a dictionary of JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "Architecture":
        """Reads settings, also those of earlier versions, which had ``glam`` and ``gem_p`` alone.

        Args:
            settings: result of `to_dict`.

        Raises:
            TypeError: there is a setting that this version does not know.
        """
        return cls(**current_settings(settings))


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
        drop_path: share of the residual branches of the backbone that are skipped in training, from 0 to below 1.

    Attributes:
        architecture: settings of the network.
        backbone: `glam.backbone.Backbone`, the feature map.
        attention: the attention, see `glam.attention`.
        pool: the pooling, see `glam.pooling`.
        head: fully connected layer with batch norm and dropout (`Head`), or an identity.
        whitening: linear layer, or an identity.
        dim: length of the descriptor.
        depthwise: whether the backbone has grouped convolutions.

    Raises:
        GlamError: timm has no such backbone, it takes images of one size only, or its weights cannot be loaded; there
            is no such attention or pooling.
        TypeError: an attention or pooling has no such option.
        ValueError: an attention or pooling refuses the value of an option.
    """

    def __init__(self, architecture: Architecture, *, pretrained: bool | Path = False, drop_path: float = 0.0) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = Backbone(
            architecture.backbone, pretrained=pretrained, stride=architecture.stride, drop_path=drop_path
        )
        self.depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in self.backbone.modules())
        channels = self.backbone.channels
        pool = POOLINGS.create(architecture.pooling, channels)
        if pool.needs_class_token and not self.backbone.has_class_token:
            raise GlamError(
                f"{architecture.backbone!r} has no class token. Choose a pooling without one, such as signed_gem."
            )
        chosen = architecture.attention
        self.attention = NoAttention() if chosen is None else ATTENTIONS.create(chosen, channels)
        self.pool = pool
        pooled = self.pool.output_dim(channels)
        self.dim = pooled if architecture.dim is None else architecture.dim
        self.head = nn.Identity() if architecture.dim is None else Head(pooled, architecture.dim, architecture.dropout)
        self.whitening: nn.Module = nn.Identity()
        if architecture.whitening is not None:
            self.whitening = nn.Linear(self.dim, architecture.whitening)
            self.dim = architecture.whitening
        self.register_load_state_dict_pre_hook(_upgrade)  # type: ignore[no-untyped-call]

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
            Pooled features, (b, n), float32, of unit length.
        """
        features, class_token = self.backbone(images)
        return F.normalize(attended_and_pooled(self.attention, self.pool, features, class_token), dim=1)


class Head(nn.Sequential):
    """Fully connected layer, batch norm, and dropout: (b, n) to (b, dim).

    Args:
        channels: n, length of the pooled features.
        dim: length of the descriptor.
        dropout: fraction of the entries that are dropped in training, in [0, 1).
    """

    def __init__(self, channels: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, dim)
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = nn.Dropout(dropout)


def _upgrade(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    rename_former_keys(state, prefix)


def current_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings of an architecture with the present names; earlier versions had ``glam`` and ``gem_p``.

    Args:
        settings: settings by name, among others.
    """
    settings = dict(settings)
    if "glam" in settings:
        glam = settings.pop("glam")
        settings["attention"] = None if glam is None else {"name": "glam", **glam}
    if "gem_p" in settings:
        settings["pooling"] = {"name": "gem", "p": settings.pop("gem_p")}
    return settings


def rename_former_keys(state: dict[str, Any], prefix: str) -> None:
    """Renames the weights of the attention in a state dict of an earlier version, in place.

    Args:
        state: weights by name.
        prefix: prefix of the network in the names, such as ``network.``.
    """
    former = f"{prefix}glam."
    for key in [key for key in state if key.startswith(former)]:
        state[f"{prefix}attention.{key.removeprefix(former)}"] = state.pop(key)
