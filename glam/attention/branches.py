"""The four attentions of GLAM, each computed from the feature map F, (b, c, h, w).

Source: C. H. Song, H. J. Han, Y. Avrithis, "All the Attention You Need: Global-local, spatial-channel attention for
image retrieval", WACV 2022 (arXiv 2107.08000). The top of `glam.attention.global_local` lists the differences.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glam.autocast import without_autocast
from glam.kernels import channel_attention, dilated_taps, dispatch, spatial_attention
from glam.kernels.channel_attention import along_channels
from glam.module_hooks import is_unmodified_conv1d, is_unmodified_conv2d


class LocalChannel(nn.Module):
    """Local channel attention A_lc: one weight per channel, from a 1D convolution over the channel means.

    Source: ECA-Net (Q. Wang et al., CVPR 2020, arXiv 1910.03151), with a fixed kernel size.

    Args:
        kernel_size: width of the convolution in channels, odd.
        device: device of the parameters; None for PyTorch's default.
        dtype: floating-point type of the parameters; None for PyTorch's default.
    """

    def __init__(
        self, kernel_size: int = 3, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.conv = _channel_conv(kernel_size, device, dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Computes A_lc.

        Args:
            features: feature map F, (b, c, h, w).

        Returns:
            A_lc, (b, c, 1, 1), in (0, 1).
        """
        return _gates(self.conv, _pooled(features))[:, :, None, None]

    def is_unmodified(self) -> bool:
        """Returns whether the weight can be used without calling the convolution, see `glam.module_hooks`."""
        return is_unmodified_conv1d(self.conv)


class LocalSpatial(nn.Module):
    """Local spatial attention A_ls: one weight per position, from its surroundings at several dilations.

    Args:
        channels: c, number of channels of the feature map.
        reduction: r, number of channels inside the branch.
        dilations: dilations of the 3x3 convolutions, in positions of the feature map.
        norm: whether batch norm follows each convolution except the last (not in the paper).
        activation: whether ReLU follows each convolution except the last (not in the paper).
        device: device of the parameters; None for PyTorch's default.
        dtype: floating-point type of the parameters; None for PyTorch's default.
    """

    def __init__(
        self,
        channels: int,
        reduction: int,
        dilations: Sequence[int] = (1, 3, 5),
        *,
        norm: bool = False,
        activation: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        self.taps = 1 + 9 * len(self.dilations)
        # A bias before the zero padding would create a border, and the branch could not be folded exactly.
        self.reduce = nn.Conv2d(channels, reduction, 1, bias=False, device=device, dtype=dtype)
        self.point = nn.Conv2d(reduction, reduction, 1, bias=False, device=device, dtype=dtype)
        self.dilated = nn.ModuleList(
            nn.Conv2d(reduction, reduction, 3, padding=d, dilation=d, bias=False, device=device, dtype=dtype)
            for d in self.dilations
        )
        self.merge = nn.Conv2d((1 + len(self.dilations)) * reduction, 1, 1, device=device, dtype=dtype)
        self.linear = not (norm or activation)
        self.between = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(reduction, device=device, dtype=dtype) if norm else nn.Identity(),
                nn.ReLU() if activation else nn.Identity(),
            )
            for _ in range(0 if self.linear else 2 + len(self.dilations))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Computes A_ls.

        Args:
            features: feature map F, (b, c, h, w).

        Returns:
            A_ls, (b, 1, h, w), unbounded.
        """
        if not self.linear or dispatch.plain() or not self.is_unmodified():
            return self.as_drawn(features)
        point, kernels = self.fold()
        taps = dilated_taps(features, point.to(features.dtype), kernels.to(features.dtype), self.dilations)
        return taps + self.merge.bias.to(features.dtype)[:, None, None]  # type: ignore[union-attr]

    def as_drawn(self, features: Tensor) -> Tensor:
        """Computes A_ls convolution by convolution, as in the paper's figure. The result is that of `forward`.

        Args:
            features: feature map F, (b, c, h, w).

        Returns:
            A_ls, (b, 1, h, w), unbounded.
        """
        identity = nn.Identity()
        first, *rest = self.between if len(self.between) else [identity] * (2 + len(self.dilations))
        reduced = first(self.reduce(features))
        branches = [self.point, *self.dilated]
        return self.merge(  # type: ignore[no-any-return]
            torch.cat([after(conv(reduced)) for conv, after in zip(branches, rest, strict=True)], dim=1)
        )

    def is_unmodified(self) -> bool:
        """Returns whether the weights can be used without calling the convolutions, see `glam.module_hooks`."""
        return (
            is_unmodified_conv2d(self.reduce, 1, bias=False)
            and is_unmodified_conv2d(self.point, 1, bias=False)
            and is_unmodified_conv2d(self.merge, 1, bias=True)
            and all(
                is_unmodified_conv2d(conv, 3, dilation, bias=False)
                for conv, dilation in zip(self.dilated, self.dilations, strict=True)
            )
        )

    def fold(self) -> tuple[Tensor, Tensor]:
        """Folds the linear branch into kernels with one output channel. Gradients reach the original weights.

        Returns:
            A 1x1 kernel, (c,), and one 3x3 kernel per dilation, (n, c, 3, 3).
        """
        with without_autocast(self.merge.weight.device.type):
            reduce = self.reduce.weight.flatten(1)  # (r, c)
            merge = self.merge.weight.view(1 + len(self.dilations), -1)  # (1 + n, r)
            point = merge[0] @ self.point.weight.flatten(1) @ reduce
            taps = [
                (weights @ conv.weight.flatten(1)).view(-1, 9)  # type: ignore[operator]  # (r, 9)
                for weights, conv in zip(merge[1:], self.dilated, strict=True)
            ]
            kernels = reduce.transpose(0, 1) @ torch.stack(taps)  # (n, c, 9)
            return point, kernels.view(*kernels.shape[:2], 3, 3)


class GlobalChannel(nn.Module):
    """Global channel attention G_c: each channel becomes a weighted mean of all channels.

    The weights come from the channel means: a query and a key per channel, and a softmax over the keys.

    Args:
        kernel_size: width of the convolutions in channels, odd.
        device: device of the parameters; None for PyTorch's default.
        dtype: floating-point type of the parameters; None for PyTorch's default.
    """

    def __init__(
        self, kernel_size: int = 3, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.query = _channel_conv(kernel_size, device, dtype)
        self.key = _channel_conv(kernel_size, device, dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Computes G_c.

        Args:
            features: feature map F, (b, c, h, w).

        Returns:
            G_c, (b, c, h, w).
        """
        pooled = _pooled(features)
        return channel_attention(features, _gates(self.query, pooled), _gates(self.key, pooled))

    def is_unmodified(self) -> bool:
        """Returns whether the weights can be used without calling the convolutions, see `glam.module_hooks`."""
        return is_unmodified_conv1d(self.query) and is_unmodified_conv1d(self.key)


class GlobalSpatial(nn.Module):
    """Global spatial attention G_s: each position becomes a weighted mean of all positions.

    Source: the non-local block (X. Wang et al., "Non-local neural networks", CVPR 2018, arXiv 1711.07971), without a
    scale of 1/sqrt(r).

    Args:
        channels: c, number of channels of the feature map.
        reduction: r, number of channels of query, key, and value. Fused attention on a GPU supports up to 512.
        device: device of the parameters; None for PyTorch's default.
        dtype: floating-point type of the parameters; None for PyTorch's default.
    """

    def __init__(
        self,
        channels: int,
        reduction: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.query = nn.Conv2d(channels, reduction, 1, device=device, dtype=dtype)
        self.key = nn.Conv2d(channels, reduction, 1, device=device, dtype=dtype)
        self.value = nn.Conv2d(channels, reduction, 1, device=device, dtype=dtype)
        self.output = nn.Conv2d(reduction, channels, 1, device=device, dtype=dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Computes G_s.

        Args:
            features: feature map F, (b, c, h, w).

        Returns:
            G_s, (b, c, h, w).
        """
        rows = (conv(features).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value))
        mixed = spatial_attention(*rows).transpose(1, 2).unflatten(2, features.shape[-2:])  # type: ignore[no-untyped-call]
        return self.output(mixed)  # type: ignore[no-any-return]

    def is_unmodified(self) -> bool:
        """Returns whether the weights can be used without calling the convolutions, see `glam.module_hooks`."""
        return all(is_unmodified_conv2d(conv, 1, bias=True) for conv in (self.query, self.key, self.value, self.output))


def _pooled(features: Tensor) -> Tensor:
    """Averages each channel over its positions: (b, c, h, w) to (b, c)."""
    return F.adaptive_avg_pool2d(features, 1).flatten(1)


def _channel_conv(kernel_size: int, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Conv1d:
    return nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype)


def _gates(conv: nn.Module, pooled: Tensor) -> Tensor:
    """Applies a convolution along the channels and a sigmoid: (b, c) to (b, c)."""
    if is_unmodified_conv1d(conv):
        return along_channels(pooled, conv.weight)  # type: ignore[arg-type]
    return conv(pooled.unsqueeze(1)).squeeze(1).sigmoid()  # type: ignore[no-any-return]
