"""Average pooling."""

from torch import Tensor

from glam.pooling.base import POOLINGS, Pooling


class Mean(Pooling):
    """Average pooling of each channel over its positions."""

    def forward(self, features: Tensor, class_token: Tensor | None = None) -> Tensor:
        """Pools a feature map, (b, c, h, w), to (b, c), float32."""
        return features.float().mean(dim=(-2, -1))


@POOLINGS.register("mean")
def mean(channels: int) -> Mean:
    """Returns average pooling.

    Args:
        channels: c, number of channels of the feature map.
    """
    return Mean()
