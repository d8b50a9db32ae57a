"""What every pooling is: a feature map, and a class token if the backbone has one, in; one vector per image out."""

from typing import ClassVar

from torch import Tensor, nn

from glam.registry import Registry


class Pooling(nn.Module):
    """Base class of the poolings.

    `POOLINGS` has them by name. The factory of a pooling takes the number of channels, and options by name.

    Attributes:
        needs_class_token: whether it uses the class token of a vision transformer.
    """

    needs_class_token: ClassVar[bool] = False

    def forward(self, features: Tensor, class_token: Tensor | None = None) -> Tensor:
        """Pools a feature map.

        Args:
            features: feature map, (b, c, h, w).
            class_token: class token, (b, c); None for a backbone without one.

        Returns:
            Pooled features, (b, n), float32; n is `output_dim` of c.
        """
        raise NotImplementedError

    def output_dim(self, channels: int) -> int:
        """Returns the length of the pooled features; by default, the number of channels.

        Args:
            channels: c, number of channels of the feature map.
        """
        return channels


POOLINGS: Registry[Pooling] = Registry("pooling", Pooling, "glam.pooling")
