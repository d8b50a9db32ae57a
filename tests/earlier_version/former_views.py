"""The augmentation of the earlier version, drawn from PyTorch's random numbers.

The losses in `files/` were computed with it. A resumed run that ends with them has restored weights, optimizer,
schedule, and place in the epoch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import InterpolationMode, v2

from glam.datasets.collection import Collection
from glam.datasets.image_dataset import mixed_seed
from glam.datasets.sampler import Draw
from glam.images import read_image

FormerView = tuple[Tensor, int, int]


class FormerViews(Dataset[FormerView]):
    """Takes the arguments of `glam.datasets.views.Views`; (3, h, w) images in [0, 1], not normalized."""

    def __init__(
        self, collection: Collection, scale: tuple[float, float], perspective: float, light: float, *, seed: int
    ) -> None:
        self.collection, self.scale, self.seed = collection, scale, seed
        self.change = v2.Compose(
            [
                v2.RandomPerspective(perspective, p=0.5),
                v2.ColorJitter(brightness=light, contrast=light, saturation=light),
                v2.RandomGrayscale(0.05),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __getitem__(self, draw: Draw) -> FormerView:
        image = read_image(self.collection.file(draw.index))
        ratio = draw.size[1] / draw.size[0]
        crop = v2.RandomResizedCrop(draw.size, self.scale, (ratio * 0.8, ratio * 1.25), InterpolationMode.BILINEAR)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(self.seed, draw.epoch, draw.index))
            return self.change(crop(image)), int(self.collection.landmark_ids[draw.index]), draw.index


def collate_former_views(
    views: Sequence[FormerView], mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Takes the arguments of `glam.datasets.views.collate_views`."""
    images, landmark_ids, indices = default_collate(list(views))
    return v2.functional.normalize(images, list(mean), list(std)), landmark_ids, indices
