"""Attention modules of timm that papers compare GLAM with: SE, ECA, CBAM, and non-local.

Sources: J. Hu, L. Shen, G. Sun, "Squeeze-and-excitation networks", CVPR 2018 (arXiv 1709.01507). Q. Wang et al.,
"ECA-Net: Efficient channel attention for deep convolutional neural networks", CVPR 2020 (arXiv 1910.03151). S. Woo et
al., "CBAM: Convolutional block attention module", ECCV 2018 (arXiv 1807.06521). X. Wang et al., "Non-local neural
networks", CVPR 2018 (arXiv 1711.07971).
"""

from timm.layers.cbam import CbamModule
from timm.layers.eca import EcaModule
from timm.layers.non_local_attn import NonLocalAttn
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn

from glam.attention.base import ATTENTIONS, Attention


class LibraryAttention(Attention):
    """An attention module of timm.

    Args:
        module: maps a feature map, (b, c, h, w), to one of the same shape.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Tensor) -> Tensor:
        """Applies the module to a feature map, (b, c, h, w)."""
        attended: Tensor = self.module(features)
        return attended


@ATTENTIONS.register("se")
def squeeze_excitation(channels: int, rd_ratio: float = 1 / 16) -> LibraryAttention:
    """Returns squeeze-and-excitation: each channel is scaled by a two-layer network of all channel means.

    Args:
        channels: c, number of channels of the feature map.
        rd_ratio: width of the hidden layer, as a share of c.
    """
    _check_ratio(rd_ratio)
    return LibraryAttention(SEModule(channels, rd_ratio=rd_ratio))


@ATTENTIONS.register("eca")
def efficient_channel(channels: int, kernel_size: int | None = None) -> LibraryAttention:
    """Returns efficient channel attention: each channel is scaled by a convolution along the channel means.

    Args:
        channels: c, number of channels of the feature map.
        kernel_size: width of the convolution in channels; None to compute it from c, as in the paper.
    """
    if kernel_size is None:
        return LibraryAttention(EcaModule(channels))
    _check_odd(kernel_size)
    return LibraryAttention(EcaModule(kernel_size=kernel_size))


@ATTENTIONS.register("cbam")
def convolutional_block(channels: int, rd_ratio: float = 1 / 16, spatial_kernel_size: int = 7) -> LibraryAttention:
    """Returns CBAM: a channel attention, then a spatial attention, both from means and maxima.

    Args:
        channels: c, number of channels of the feature map.
        rd_ratio: width of the hidden layer of the channel attention, as a share of c.
        spatial_kernel_size: width of the convolution of the spatial attention, in positions, odd.
    """
    _check_ratio(rd_ratio)
    _check_odd(spatial_kernel_size)
    return LibraryAttention(CbamModule(channels, rd_ratio=rd_ratio, spatial_kernel_size=spatial_kernel_size))


@ATTENTIONS.register("non_local")
def non_local(channels: int, rd_ratio: float = 1 / 8, use_scale: bool = True) -> LibraryAttention:
    """Returns a non-local block: attention between all positions, with a residual connection, at first the identity.

    Args:
        channels: c, number of channels of the feature map.
        rd_ratio: width of query, key, and value, as a share of c.
        use_scale: whether products of query and key are divided by the square root of c.
    """
    _check_ratio(rd_ratio)
    return LibraryAttention(NonLocalAttn(channels, use_scale=use_scale, rd_ratio=rd_ratio))  # type: ignore[no-untyped-call]


def _check_ratio(rd_ratio: float) -> None:
    if not 0 < rd_ratio <= 1:
        raise ValueError(f"rd_ratio must be above 0, up to 1, not {rd_ratio}")


def _check_odd(size: int) -> None:
    if size < 1 or size % 2 != 1:
        raise ValueError(f"the size of a kernel must be odd, not {size}")
