"""GLAM: global-local attention, spatial and channel.

Source: C. H. Song, H. J. Han, Y. Avrithis, "All the Attention You Need: Global-local, spatial-channel attention for
image retrieval", WACV 2022 (arXiv 2107.08000).

Four attentions are computed in parallel from the same feature map F, (b, c, h, w):

                 channel                            spatial
    local        A_lc  (b, c, 1, 1)                 A_ls  (b, 1, h, w)
    global       G_c   (b, c, h, w)                 G_s   (b, c, h, w)

`glam.attention.branches` has a class for each, and `GLAM` combines them. Choices that the paper leaves open, and
differences:

- r (``reduction``) and the dilations are options. The paper's text and its figure give different dilations.
- The local spatial branch of the paper is linear. It is folded into one 1x1 and three 3x3 kernels with one output
  channel (28 taps). With batch norm or an activation (neither is in the paper), it runs convolution by convolution.
- The (c, c) map of global channel attention is replaced by factors of rank 8 (see `glam.kernels.channel_attention`).

The fast forms read the weights of the convolutions without calling them. If a convolution has hooks or a
parametrization, or was replaced, the module calls it instead, so that pruning, LoRA, and FLOP counters work as usual.
"""

from collections.abc import Sequence
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from glam.attention.base import ATTENTIONS, Attention
from glam.attention.branches import GlobalChannel, GlobalSpatial, LocalChannel, LocalSpatial
from glam.module_hooks import is_unmodified


class GLAMParts(TypedDict, total=False):
    """Keyword arguments of `GLAM` that switch its parts on and off.

    Attributes:
        local_channel: whether to use local channel attention, A_lc; True by default.
        local_spatial: whether to use local spatial attention, A_ls; True by default.
        global_channel: whether to use global channel attention, G_c; True by default.
        global_spatial: whether to use global spatial attention, G_s; True by default.
        local_norm: whether the local spatial branch has batch norm (not in the paper); False by default.
        local_activation: whether the local spatial branch has ReLU (not in the paper); False by default.
    """

    local_channel: bool
    local_spatial: bool
    global_channel: bool
    global_spatial: bool
    local_norm: bool
    local_activation: bool


DEFAULT_PARTS: GLAMParts = {
    "local_channel": True,
    "local_spatial": True,
    "global_channel": True,
    "global_spatial": True,
    "local_norm": False,
    "local_activation": False,
}
"""The parts that the paper has: the four attentions, without batch norm or ReLU in the local spatial branch."""


class GLAM(Attention):
    """Global-local attention module: (b, c, h, w) to (b, c, h, w), for any height and width.

        F_l = (1 + A_ls) (1 + A_lc) F            local stream
        F_g = (1 + G_s) G_c F                    global stream (as in the paper, no residual around G_c)
        out = w_l F_l + w_g F_g + w F            (w_l, w_g, w) = softmax(fusion)

    An attention that is switched off drops its factor from the formula. A stream without attentions gets weight 0, and
    with all four attentions off the module is the identity.

    Source: C. H. Song, H. J. Han, Y. Avrithis, WACV 2022 (arXiv 2107.08000). The top of
    `glam.attention.global_local` lists the differences.

    Examples:
        >>> attention = glam.GLAM(channels=64, reduction=16)
        >>> attention(torch.rand(2, 64, 24, 32)).shape
        torch.Size([2, 64, 24, 32])

    Args:
        channels: c, number of channels of the feature map.
        reduction: r, number of channels inside both spatial branches.
        dilations: dilations of the local spatial branch, in positions of the feature map.
        kernel_size: width of the convolutions along the channels, in channels, odd.
        device: device of the parameters; None for PyTorch's default.
        dtype: floating-point type of the parameters; None for PyTorch's default.
        **parts: parts to switch on or off, such as ``global_channel=False``, see `GLAMParts`.

    Attributes:
        channels: c, number of channels of the feature map.
        local_channel: `LocalChannel`, or None if it is switched off.
        local_spatial: `LocalSpatial`, or None if it is switched off.
        global_channel: `GlobalChannel`, or None if it is switched off.
        global_spatial: `GlobalSpatial`, or None if it is switched off.
        fusion: logits of the weights of local stream, global stream, and input, a parameter of shape (3,).

    Raises:
        ValueError: ``channels``, ``reduction``, or a dilation is below 1, or ``kernel_size`` is not odd.
        TypeError: ``parts`` has a name that `GLAMParts` does not have.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 256,
        dilations: Sequence[int] = (1, 3, 5),
        *,
        kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **parts: Unpack[GLAMParts],
    ) -> None:
        super().__init__()
        if min(channels, reduction, *dilations) < 1:
            raise ValueError(
                f"channels ({channels}), reduction ({reduction}), and dilations ({tuple(dilations)}) must be at least 1"
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        _check_parts(parts)
        on = DEFAULT_PARTS | parts
        self.channels = channels
        self.local_channel = LocalChannel(kernel_size, device=device, dtype=dtype) if on["local_channel"] else None
        self.local_spatial = (
            LocalSpatial(
                channels,
                reduction,
                dilations,
                norm=on["local_norm"],
                activation=on["local_activation"],
                device=device,
                dtype=dtype,
            )
            if on["local_spatial"]
            else None
        )
        self.global_channel = GlobalChannel(kernel_size, device=device, dtype=dtype) if on["global_channel"] else None
        self.global_spatial = (
            GlobalSpatial(channels, reduction, device=device, dtype=dtype) if on["global_spatial"] else None
        )
        self.fusion = nn.Parameter(torch.zeros(3, device=device, dtype=dtype))
        self.weight_cache: object = None  # used by `glam.attend_and_pool`

    def forward(self, features: Tensor) -> Tensor:
        """Applies the attentions to a feature map.

        Args:
            features: feature map F, (b, c, h, w).

        Returns:
            Attended feature map, (b, c, h, w), of the same dtype.
        """
        # Every term of the formula is a multiple of F, so the factors are summed first, and F is multiplied once.
        weight_local, weight_global, weight_identity = self.fusion_weights().to(features.dtype)
        gain: Tensor = weight_identity
        if self.local_channel is not None or self.local_spatial is not None:
            gain = gain + weight_local * self._local_gain(features)
        if self.global_channel is not None or self.global_spatial is not None:
            gain = gain + weight_global * self._global_gain(features)
        return features * gain

    def is_unmodified(self) -> bool:
        """Returns whether the weights can be used without calling this module or the modules inside it.

        Modules with hooks, parametrizations, or replacements must be called, see `glam.module_hooks`.
        """
        parts = (
            (self.local_channel, LocalChannel),
            (self.local_spatial, LocalSpatial),
            (self.global_channel, GlobalChannel),
            (self.global_spatial, GlobalSpatial),
        )
        return is_unmodified(self, GLAM) and all(
            part is None or (is_unmodified(part, kind) and part.is_unmodified()) for part, kind in parts
        )

    def fusion_weights(self) -> Tensor:
        """Computes the weights of the three streams.

        Returns:
            (3,), weights of the local stream, the global stream, and the input; they sum to 1. A stream without
            attentions has weight 0.
        """
        has_local = self.local_channel is not None or self.local_spatial is not None
        has_global = self.global_channel is not None or self.global_spatial is not None
        absent = [not has_local, not has_global, False]
        fusion: Tensor = self.fusion
        if any(absent):
            fusion = fusion.masked_fill(torch.tensor(absent, device=fusion.device), float("-inf"))
        return fusion.softmax(dim=0)

    @torch.no_grad()
    def start_near_identity(self, input_weight: float = 0.9) -> None:
        """Initializes the module close to the identity, to fine-tune a trained backbone without losing its features.

        Sets both spatial attentions to zero, and the fusion weights such that the input dominates.

        Args:
            input_weight: fusion weight of the input, in (0, 1); the two streams share the rest equally.
        """
        if self.local_spatial is not None:
            self.local_spatial.merge.weight.zero_()
            self.local_spatial.merge.bias.zero_()  # type: ignore[union-attr]
        if self.global_spatial is not None:
            self.global_spatial.output.weight.zero_()
            self.global_spatial.output.bias.zero_()  # type: ignore[union-attr]
        self.fusion.copy_(torch.tensor([(1 - input_weight) / 2, (1 - input_weight) / 2, input_weight]).log())

    @torch.inference_mode()
    def maps(self, features: Tensor) -> dict[str, Tensor]:
        """Computes where each attention looks; `glam.attention_maps` says how the maps are defined.

        Args:
            features: feature map of one image, (1, c, h, w), float32.

        Returns:
            Maps of the attentions that are switched on, by name: (h, w), or (h w, h w) for ``global_spatial``.
        """
        maps: dict[str, Tensor] = {}
        if self.local_channel is not None:
            maps["local_channel"] = _response(self.local_channel(features) * features)
        if self.local_spatial is not None:
            maps["local_spatial"] = self.local_spatial(features)[0, 0]
        if self.global_channel is not None:
            maps["global_channel"] = _response(self.global_channel(features))
        if self.global_spatial is not None:
            query, key = (
                conv(features)[0].flatten(1) for conv in (self.global_spatial.query, self.global_spatial.key)
            )  # (r, h w)
            maps["global_spatial"] = (query.T @ key).softmax(dim=1)  # row i is the softmax over the keys for query i
        return maps

    def _local_gain(self, features: Tensor) -> Tensor:
        gain = features.new_ones(1)
        if self.local_channel is not None:
            gain = gain * (1 + self.local_channel(features))
        if self.local_spatial is not None:
            gain = gain * (1 + self.local_spatial(features))
        return gain

    def _global_gain(self, features: Tensor) -> Tensor:
        gain = features.new_ones(1)
        if self.global_channel is not None:
            gain = gain * self.global_channel(features)
        if self.global_spatial is not None:
            gain = gain * (1 + self.global_spatial(features))
        return gain


@ATTENTIONS.register("glam")
def glam(
    channels: int,
    reduction: int = 256,
    dilations: Sequence[int] = (1, 3, 5),
    kernel_size: int = 3,
    **parts: Unpack[GLAMParts],
) -> GLAM:
    """Returns GLAM; its arguments are those of the class, without device and dtype."""
    _check_parts(parts)
    return GLAM(channels, reduction, dilations, kernel_size=kernel_size, **parts)


def _check_parts(parts: GLAMParts) -> None:
    for unknown in parts.keys() - DEFAULT_PARTS.keys():
        raise TypeError(f"GLAM has no part {unknown!r}. Its parts are {', '.join(DEFAULT_PARTS)}.")


def _response(features: Tensor) -> Tensor:
    """Root mean square over the channels: (1, c, h, w) to (h, w)."""
    response: Tensor = features[0].square().mean(dim=0).sqrt()
    return response
