"""GeM: generalized-mean pooling.

Source: F. Radenovic, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018
(arXiv 1711.02512).
"""

import torch
from torch import Tensor, nn

from glam.autocast import without_autocast


class GeM(nn.Module):
    """Pools a feature map by the generalized mean of its positive part, ``mean(max(x, eps)^p)^(1/p)``.

    p = 1 is average pooling, p to infinity is max pooling. The exponent is one learned scalar.

    Args:
        p: exponent at the start.
        eps: smallest value that enters the mean, so that the root has a gradient.
        device: of the parameters; PyTorch's default by default.
        dtype: of the parameters; PyTorch's default by default.
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
        self.p = nn.Parameter(torch.tensor(float(p), device=device, dtype=dtype))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """(b, c, h, w) to (b, c), float32: x^3 overflows half precision, so the mean is taken in single."""
        with without_autocast(features.device.type):
            powered = features.float().clamp(min=self.eps).pow(self.p)
            return powered.mean(dim=(-2, -1)).pow(1.0 / self.p)

    def extra_repr(self) -> str:
        """The exponent, for printing."""
        return f"p={self.p.item():.3f}"
