"""How an image is changed for training: another frame, another viewpoint, another light. Never mirrored, for the
mirror image of a building is another building."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from glam.sizes import Size


class Augment:
    """Random crop, perspective and light.

    Args:
        scale: share of the image's area that a crop keeps, from and to.
        perspective: how far corners move, as a share of half the side; 0 for none.
        light: strength of changes in brightness, contrast and saturation; 0 for none.
        mean: per channel, of images in [0, 1].
        std: likewise.
    """

    def __init__(
        self,
        scale: tuple[float, float],
        perspective: float,
        light: float,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.scale = scale
        self.viewpoint = v2.RandomPerspective(perspective, p=0.5 if perspective else 0.0)
        self.light = v2.Compose(
            [
                v2.ColorJitter(brightness=light, contrast=light, saturation=light),
                v2.RandomGrayscale(0.05 if light else 0.0),
            ]
        )
        self.to_tensor = to_tensor(mean, std)

    def __call__(self, image: Image.Image, size: Size) -> Tensor:
        """An RGB image to a normalized (3, h, w) tensor of ``size``, drawn from PyTorch's random numbers."""
        height, width = size
        ratio = width / height
        crop = v2.RandomResizedCrop(size, self.scale, (ratio * 0.8, ratio * 1.25), InterpolationMode.BILINEAR)
        return self.to_tensor(self.light(self.viewpoint(crop(image))))  # type: ignore[no-any-return]


def to_tensor(mean: Sequence[float], std: Sequence[float]) -> v2.Compose:
    """A Pillow image to a normalized (3, h, w) float32 tensor."""
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=list(mean), std=list(std))]
    )
