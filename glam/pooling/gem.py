"""GeM: generalized-mean pooling.

Source: F. Radenovic, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018
(arXiv 1711.02512).
"""

import math

import torch
from torch import Tensor, nn

from glam.autocast import without_autocast
from glam.pooling.base import POOLINGS, Pooling


class GeM(Pooling):
    """Generalized-mean pooling of each channel over its positions, ``mean(max(x, eps)^p)^(1/p)``.

    p = 1 is average pooling, and p to infinity is max pooling. The exponent is a learned scalar that all channels
    share (the paper also tries one exponent per channel).

    Source: F. Radenovic, G. Tolias, O. Chum, TPAMI 2018 (arXiv 1711.02512).

    Examples:
        >>> pool = glam.GeM(p=3.0)
        >>> pool(torch.rand(2, 64, 24, 32)).shape
        torch.Size([2, 64])

    Args:
        p: initial exponent, above 0.
        eps: values are clamped to at least this, so that the root has a gradient.
        device: device of the parameter; None for PyTorch's default.
        dtype: floating-point type of the parameter; None for PyTorch's default.

    Attributes:
        p: the exponent, a parameter of shape ().

    Raises:
        ValueError: ``p`` is not a number above 0.
    """

    def __init__(
        self,
        p: float = 3.0,
        eps: float = 1e-6,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 < p < math.inf:
            raise ValueError(f"the exponent p of GeM must be above 0, not {p}")
        self.p = nn.Parameter(torch.tensor(float(p), device=device, dtype=dtype))
        self.eps = eps

    def forward(self, features: Tensor, class_token: Tensor | None = None) -> Tensor:
        """Pools a feature map.

        Args:
            features: feature map, (b, c, h, w).
            class_token: not used.

        Returns:
            Pooled features, (b, c), float32 (x^3 would overflow in half precision).
        """
        with without_autocast(features.device.type):
            powered = features.float().clamp(min=self.eps).pow(self.p)
            return powered.mean(dim=(-2, -1)).pow(1.0 / self.p)

    def extra_repr(self) -> str:
        """Returns the exponent as text, for `print`."""
        return f"p={self.p.item():.3f}"


@POOLINGS.register("gem")
def gem(channels: int, p: float = 3.0) -> GeM:
    """Returns GeM.

    Args:
        channels: c, number of channels of the feature map.
        p: initial exponent, above 0.
    """
    return GeM(p)
