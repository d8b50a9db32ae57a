"""What every attention module is: a feature map in, a feature map of the same shape out."""

from torch import Tensor, nn

from glam.registry import Registry


class Attention(nn.Module):
    """Base class of the attention modules between backbone and pooling.

    `ATTENTIONS` has them by name. The factory of an attention takes the number of channels, and options by name.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Applies the attention.

        Args:
            features: feature map, (b, c, h, w).

        Returns:
            Attended feature map, (b, c, h, w).
        """
        raise NotImplementedError

    def start_near_identity(self, input_weight: float) -> None:
        """Initializes the module close to the identity, if it can be; by default, its start stays unchanged.

        Args:
            input_weight: share of the input in the output, in (0, 1).
        """

    def maps(self, features: Tensor) -> dict[str, Tensor]:
        """Computes where the attention looks in an image, for display; by default, nothing.

        Args:
            features: feature map of one image, (1, c, h, w), float32.

        Returns:
            Maps by the names of the attributes of `glam.attention_maps.AttentionMaps`: (h, w), or (h w, h w) for
            ``global_spatial``.
        """
        return {}


ATTENTIONS: Registry[Attention] = Registry("attention", Attention, "glam.attention")


class NoAttention(Attention):
    """No attention: the feature map stays unchanged."""

    def forward(self, features: Tensor) -> Tensor:
        """Returns the feature map, (b, c, h, w)."""
        return features
