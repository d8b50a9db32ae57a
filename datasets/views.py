"""Data augmentation: random crop, viewpoint, and light.

    file --per image: draw, crop, resize--> (h, w, 3) uint8 and (12,) changes
         --per batch: viewpoint, light, normalize--> (b, 3, h, w) float32

Images are never mirrored, because the mirror image of a building is another building. The per-image half runs in a
worker. The per-batch half runs in the same worker (`collate_views`) or on the training device. Use the device for
networks that train faster than the CPU augments: a worker then only decodes and resizes, and sends a quarter of the
bytes. All random numbers are drawn per image, from seed, epoch, and image, so a view depends neither on its batch nor
on its process.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from glam.datasets.collection import Collection
from glam.datasets.sampler import Draw
from glam.images import image_errors, is_turned, open_image, to_rgb, turn_upright, upright_size
from glam.sizes import Size

Crop = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the upright image's width and height."""
View = tuple[Tensor, int, int, Tensor]
"""(h, w, 3) uint8 crop, its landmark id, its index in the collection, (12,) float32 changes (see `draw_changes`)."""

STRETCH = 1.25
"""Largest factor between the aspect ratio of a crop and that of the size it is resized to (arbitrary)."""
GRAY = 0.05
"""Share of the views that turn gray, unless light is 0 (arbitrary)."""
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, rounded as in torchvision


class Views(Dataset[View]):
    """Random crops of the images of a collection, each with its changes of viewpoint and light.

    The changes are drawn here and made by `apply_changes`, per batch.

    Args:
        collection: the images.
        scale: smallest and largest share of the image's area that a crop covers; see `draw_crop` for the exception.
        perspective: largest move of a corner along each axis, as a share of half the side; 0 for none.
        light: largest change of brightness, contrast, and saturation, as a share; 0 for none.
        seed: seed of all random numbers.
    """

    def __init__(
        self, collection: Collection, scale: tuple[float, float], perspective: float, light: float, *, seed: int = 0
    ) -> None:
        self.collection = collection
        self.scale = scale
        self.perspective = perspective
        self.light = light
        self.seed = seed

    def __len__(self) -> int:
        return len(self.collection)

    def __getitem__(self, draw: Draw) -> View:
        random = np.random.default_rng([self.seed, draw.epoch, draw.index])
        pixels = read_crop(self.collection.file(draw.index), draw.size, self.scale, random)
        changes = draw_changes(random, self.perspective, self.light)
        return pixels, int(self.collection.landmark_ids[draw.index]), draw.index, changes


def read_crop(file: Path, size: Size, scale: tuple[float, float], random: np.random.Generator) -> Tensor:
    """Reads a random crop of an image, resized: (h, w, 3) uint8.

    A JPEG is decoded at the smallest scale (1/8, 1/4, 1/2, or 1) that leaves the crop at least as large as the result.

    Args:
        file: path of the image.
        size: (h, w) of the result in pixels.
        scale: smallest and largest share of the image's area that the crop covers.
        random: source of the random numbers.

    Raises:
        ImageError: the file cannot be read.
    """
    with image_errors(file):
        image = open_image(file)
        width, height = upright_size(image)
        left, top, right, bottom = draw_crop(random, width / height, size[1] / size[0], scale)
        across, down = size[1] / (right - left), size[0] / (bottom - top)
        target = (down, across) if is_turned(image) else (across, down)
        image.draft("RGB", (math.ceil(target[0]), math.ceil(target[1])))
        image = to_rgb(turn_upright(image, in_place=True))
        width, height = image.size
        box = (left * width, top * height, right * width, bottom * height)
        return torch.from_numpy(np.array(image.resize(size[::-1], Image.Resampling.BILINEAR, box)))


def draw_crop(random: np.random.Generator, ratio: float, target_ratio: float, scale: tuple[float, float]) -> Crop:
    """Draws a random crop.

    If none of ten draws fits into the image, the result is the largest centered crop of the target aspect ratio,
    whatever its area.

    Args:
        random: source of the random numbers.
        ratio: width over height of the image.
        target_ratio: width over height of the size that the crop is resized to.
        scale: smallest and largest share of the image's area that the crop covers.

    Returns:
        Left, top, right, and bottom, as shares of the image's width and height.
    """
    for _ in range(10):
        area = random.uniform(*scale)
        stretched = target_ratio * STRETCH ** random.uniform(-1, 1) / ratio  # width over height, both as shares
        width, height = math.sqrt(area * stretched), math.sqrt(area / stretched)
        if width <= 1 and height <= 1:
            left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
            return left, top, left + width, top + height
    width, height = min(1.0, target_ratio / ratio), min(1.0, ratio / target_ratio)
    return (1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2


def draw_changes(random: np.random.Generator, perspective: float, light: float) -> Tensor:
    """Draws the changes of viewpoint and light, as (12,) float32.

    The first nine numbers are the (3, 3) homography from positions in the view to positions in the crop, both between
    -1 and 1 on each axis. Half of the views keep their viewpoint. The last three are the factors of brightness,
    contrast, and saturation: 1 changes nothing, and saturation 0 is gray.

    Args:
        random: source of the random numbers.
        perspective: largest move of a corner along each axis, as a share of half the side; 0 for none.
        light: largest difference of a factor from 1; 0 for none.
    """
    inwards = random.uniform(0, perspective, (4, 2))
    moved = CORNERS * (1 - inwards)
    homography = homography_between(moved, CORNERS) if random.random() < 0.5 else np.eye(3)
    factors = random.uniform(max(0.0, 1 - light), 1 + light, 3)
    if light and random.random() < GRAY:
        factors[2] = 0
    return torch.from_numpy(np.concatenate([homography.ravel(), factors]).astype(np.float32))


CORNERS: NDArray[np.float64] = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def homography_between(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (3, 3) homography, with 1 as its last entry, that maps four points to four others.

    Args:
        source: (4, 2) points.
        target: (4, 2) points that the homography maps ``source`` to.
    """
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.append(np.linalg.solve(np.array(rows), target.ravel()), 1.0).reshape(3, 3)


@torch.no_grad()
def apply_changes(pixels: Tensor, changes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Changes viewpoint, brightness, contrast, and saturation of a batch of crops, in this order, and normalizes it.

    The computation runs on the device of the batch. Pixels from outside a crop are black.

    Args:
        pixels: (b, h, w, 3) uint8 crops.
        changes: (b, 12) float32 changes, see `draw_changes`.
        mean: mean of each of the 3 channels, of images in [0, 1].
        std: standard deviation of each of the 3 channels, of images in [0, 1].

    Returns:
        (b, 3, h, w) float32.
    """
    homography, factors = changes[:, :9].view(-1, 3, 3), changes[:, 9:, None, None, None]
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    images = F.grid_sample(images, _sample_grid(homography, *images.shape[-2:]), align_corners=False)
    brightness, contrast, saturation = factors.unbind(dim=1)
    mean_row, std_row, luma = _constants(tuple(mean), tuple(std), images.device)
    images = images.mul_(brightness).clamp_(0, 1)
    average = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    images = images.lerp_(average, 1 - contrast).clamp_(0, 1)
    gray = (images * luma).sum(dim=1, keepdim=True)
    images = images.lerp_(gray, 1 - saturation).clamp_(0, 1)
    return images.sub_(mean_row).div_(std_row)


def collate_views(views: Sequence[View], mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Collates views into a batch and applies their changes.

    Args:
        views: items of `Views`, all of one size.
        mean: mean of each of the 3 channels, of images in [0, 1].
        std: standard deviation of each of the 3 channels, of images in [0, 1].

    Returns:
        (b, 3, h, w) float32 images, (b,) landmark ids, (b,) indices in the collection.
    """
    pixels, landmark_ids, indices, changes = default_collate(list(views))
    return apply_changes(pixels, changes, mean, std), landmark_ids, indices


def _sample_grid(homography: Tensor, height: int, width: int) -> Tensor:
    """(b, 3, 3) homographies to the (b, h, w, 2) positions in the crops that the views sample."""
    x = _centers(width, homography.device)
    y = _centers(height, homography.device)
    # Row by row of the homography: the two coordinates of each pixel, and their common denominator.
    across, down, denominator = (
        a * x + (b * y[:, None] + c) for a, b, c in (row[:, :, None, None].unbind(1) for row in homography.unbind(1))
    )
    return torch.stack([across / denominator, down / denominator], dim=-1)


def _centers(pixels: int, device: torch.device) -> Tensor:
    """Positions of the pixel centers of an axis, whose pixels span -1 to 1."""
    return (torch.arange(pixels, device=device) * 2 + 1) / pixels - 1


@lru_cache(maxsize=8)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(3, 1, 1) each, cached on the device: copying a new tensor to a GPU waits for the work queued there."""
    mean_row, std_row, luma = (torch.tensor(row, device=device)[:, None, None] for row in (mean, std, _LUMA))
    return mean_row, std_row, luma
