"""Class token of a vision transformer as the pooled features, alone or beside a pooled feature map.

Sources: A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021 (arXiv 2010.11929), for the class token.
M. Oquab et al., "DINOv2", TMLR 2024 (arXiv 2304.07193), joins it with the mean of the patch tokens for linear probes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.pooling.base import POOLINGS, Pooling
from glam.pooling.signed_gem import SignedGeM


class ClassToken(Pooling):
    """The class token."""

    needs_class_token = True

    def forward(self, features: Tensor, class_token: Tensor | None = None) -> Tensor:
        """Returns the class token, (b, c), in float32."""
        assert class_token is not None
        return class_token.float()


class ClassTokenAndMap(Pooling):
    """The class token and the pooled feature map, each scaled to unit length, one after the other.

    Args:
        pool: pooling of the feature map.
    """

    needs_class_token = True

    def __init__(self, pool: Pooling) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, features: Tensor, class_token: Tensor | None = None) -> Tensor:
        """Pools a feature map, (b, c, h, w), and a class token, (b, c), to (b, 2 c), float32."""
        assert class_token is not None
        pooled = self.pool(features)
        return torch.cat([F.normalize(class_token.float(), dim=1), F.normalize(pooled, dim=1)], dim=1)

    def output_dim(self, channels: int) -> int:
        """Returns 2 c: class token and pooled map."""
        return channels + self.pool.output_dim(channels)


@POOLINGS.register("cls")
def cls(channels: int) -> ClassToken:
    """Returns the class token.

    Args:
        channels: c, number of channels of the class token.
    """
    return ClassToken()


@POOLINGS.register("cls+gem")
def cls_and_gem(channels: int, p: float = 3.0) -> ClassTokenAndMap:
    """Returns the class token beside signed GeM.

    Args:
        channels: c, number of channels of the feature map and of the class token.
        p: initial exponent of signed GeM, above 0.
    """
    return ClassTokenAndMap(SignedGeM(p))
