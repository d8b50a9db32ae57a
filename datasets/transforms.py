"""Conversion of an image to the tensor that a network takes."""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2


def to_tensor(mean: Sequence[float], std: Sequence[float]) -> v2.Compose:
    """A Pillow image to a normalized (3, h, w) float32 tensor."""
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=list(mean), std=list(std))]
    )
