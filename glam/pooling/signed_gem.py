"""Signed GeM: generalized-mean pooling of features that may be negative.

GeM (`glam.pooling.gem`) clamps features to positive ones, which suits maps after a ReLU. About half of the features of
a vision transformer are negative, and GeM would drop them.
"""

from torch import Tensor

from glam.autocast import without_autocast
from glam.pooling.base import POOLINGS
from glam.pooling.gem import GeM


class SignedGeM(GeM):
    """Generalized-mean pooling that keeps the sign: with ``m = mean(sign(x) |x|^p)``, it is ``sign(m) |m|^(1/p)``.

    Where all features are positive, this is GeM; with p = 1, it is average pooling. The root is linear in ``m`` below
    ``eps``, because its slope at 0 is infinite, and a mean of both signs may be 0.

    Args:
        p: initial exponent, above 0.
        eps: magnitude below which power and root are linear.
    """

    def forward(self, features: Tensor, class_token: Tensor | None = None) -> Tensor:
        """Pools a feature map, (b, c, h, w), to (b, c), float32."""
        with without_autocast(features.device.type):
            means = self._signed_power(features.float(), self.p).mean(dim=(-2, -1))
            return self._signed_power(means, 1.0 / self.p)

    def _signed_power(self, values: Tensor, exponent: Tensor) -> Tensor:
        return values * values.abs().clamp(min=self.eps).pow(exponent - 1.0)


@POOLINGS.register("signed_gem")
def signed_gem(channels: int, p: float = 3.0) -> SignedGeM:
    """Returns signed GeM.

    Args:
        channels: c, number of channels of the feature map.
        p: initial exponent, above 0.
    """
    return SignedGeM(p)
