"""The previous augmentation: torchvision, per image, in workers.

`augmentation.py` compares `glam.datasets.views` with it. `tests/earlier_version` resumes training runs that started
with it: if a resumed run ends with the loss of an uninterrupted one, then weights, optimizer, schedule, and position in
the epoch were restored.
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
    """Views of images, as (3, h, w), float32, in [0, 1], not normalized, with their landmark ids and indices.

    Args:
        collection: the images.
        scale: minimum and maximum fraction of the image's area that a crop covers.
        perspective: maximum shift of a corner along each axis, as a fraction of half the side; above 0.
        light: maximum change of brightness, contrast, and saturation, as a fraction; above 0.
        seed: seed of all random numbers.
    """

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
    """Collates views into a batch and normalizes it.

    Args:
        views: items of `FormerViews`, all of one size.
        mean: mean of each of the 3 channels, of images in [0, 1].
        std: standard deviation of each of the 3 channels, of images in [0, 1].

    Returns:
        Images, (b, 3, h, w), float32; landmark ids, (b,); and indices in the collection, (b,).
    """
    images, landmark_ids, indices = default_collate(list(views))
    return v2.functional.normalize(images, list(mean), list(std)), landmark_ids, indices
