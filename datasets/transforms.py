"""Conversion of an image to the input tensor of a network."""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2


def to_tensor(mean: Sequence[float], std: Sequence[float]) -> v2.Compose:
    """Builds a transform from an RGB Pillow image to a normalized (3, h, w) float32 tensor.

    Args:
        mean: mean of each of the 3 channels, of images in [0, 1].
        std: standard deviation of each of the 3 channels, of images in [0, 1].
    """
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=list(mean), std=list(std))]
    )
