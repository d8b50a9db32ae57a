"""Augmentation in two halves, for networks that train faster than processors can augment.

    file --worker: decode at a fraction, crop, resize--> (h, w, 3) bytes and the numbers that say what else changes
         --device, a batch at a time: viewpoint, light, normalize--> (b, 3, h, w)

The same changes as `glam.datasets.transforms.Augment`, but for the order of brightness, contrast and saturation, which
is fixed. A worker decodes and resizes only, and a quarter of the bytes go to the device. All random numbers are drawn
by the worker from seed, epoch and image, so that a view does not depend on its batch or its process.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from glam.datasets.collection import Collection
from glam.datasets.sampler import Draw
from glam.images import image_errors, open_image, to_rgb
from glam.sizes import Size

Crop = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the upright image's width and height."""
View = tuple[Tensor, int, int, Tensor]
"""(h, w, 3) uint8 crop, its landmark id, its index in the collection, (12,) changes (see `draw_changes`)."""

STRETCH = 1.25
"""Most that the aspect ratio of a crop differs from that of the size it is brought to."""
GRAY = 0.05
"""Share of the images that lose their colors, where light changes at all."""
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_LUMA = (0.2989, 0.587, 0.114)


class Views(Dataset[View]):
    """The images of a collection as crops, with what the device still has to change, for `apply_changes`.

    Args:
        collection: the images.
        scale: share of the image's area that a crop keeps, from and to.
        perspective: how far corners move, as a share of half the side; 0 for none.
        light: strength of changes in brightness, contrast and saturation; 0 for none.
        seed: of all random numbers.
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
    """A random part of an image at a size: (h, w, 3) uint8.

    A JPEG is decoded at the smallest fraction (1/8, 1/4, 1/2) that leaves the crop as large as it is needed.

    Args:
        file: of the image.
        size: (h, w) of the result in pixels.
        scale: share of the image's area that is kept, from and to.
        random: draws the part.

    Raises:
        ImageError: the file cannot be read.
    """
    with image_errors(file):
        image = open_image(file)
        turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
        width, height = image.size[::-1] if turned else image.size
        left, top, right, bottom = draw_crop(random, width / height, size[1] / size[0], scale)
        across, down = size[1] / (right - left), size[0] / (bottom - top)
        target = (down, across) if turned else (across, down)
        image.draft("RGB", (math.ceil(target[0]), math.ceil(target[1])))
        image = to_rgb(ImageOps.exif_transpose(image))
        width, height = image.size
        box = (left * width, top * height, right * width, bottom * height)
        return torch.from_numpy(np.array(image.resize(size[::-1], Image.Resampling.BILINEAR, box)))


def draw_crop(random: np.random.Generator, ratio: float, wanted: float, scale: tuple[float, float]) -> Crop:
    """Draws a crop; where none of ten fits into the image, the largest in its middle.

    Args:
        random: where the numbers come from.
        ratio: width over height of the image.
        wanted: width over height of the size that the crop is brought to.
        scale: share of the image's area, from and to.
    """
    for _ in range(10):
        area = random.uniform(*scale)
        stretched = wanted * STRETCH ** random.uniform(-1, 1) / ratio  # width over height, both as shares
        width, height = math.sqrt(area * stretched), math.sqrt(area / stretched)
        if width <= 1 and height <= 1:
            left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
            return left, top, left + width, top + height
    width, height = min(1.0, wanted / ratio), min(1.0, ratio / wanted)
    return (1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2


def draw_changes(random: np.random.Generator, perspective: float, light: float) -> Tensor:
    """Draws what changes beside the crop, as (12,) float32.

    The first nine are the (3, 3) homography from positions in the view to positions in the crop, both from -1 to 1
    across (half of the views keep their viewpoint); then factors of brightness, contrast and saturation (1 for no
    change, saturation 0 for gray).

    Args:
        random: where the numbers come from.
        perspective: how far corners move, as a share of half the side.
        light: strength of the others.
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
    """The (3, 3) homography that takes four points to four others, (4, 2) each; its last entry is 1."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.append(np.linalg.solve(np.array(rows), target.ravel()), 1.0).reshape(3, 3)


@torch.no_grad()
def apply_changes(pixels: Tensor, changes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Applies the changes of viewpoint and light to a batch of crops, and normalizes it, on the device of the batch.

    Args:
        pixels: (b, h, w, 3) uint8.
        changes: (b, 12), see `draw_changes`; what lies outside of a crop becomes black.
        mean: per channel, of images in [0, 1].
        std: likewise.

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


def _sample_grid(homography: Tensor, height: int, width: int) -> Tensor:
    """(b, 3, 3) homographies to (b, h, w, 2) positions in the crop that the pixels of the views are sampled from."""
    x = _centers(width, homography.device)
    y = _centers(height, homography.device)
    # Row by row of the homography: for each pixel, its two positions and their common denominator.
    across, down, denominator = (
        a * x + (b * y[:, None] + c) for a, b, c in (row[:, :, None, None].unbind(1) for row in homography.unbind(1))
    )
    return torch.stack([across / denominator, down / denominator], dim=-1)


def _centers(pixels: int, device: torch.device) -> Tensor:
    """Positions of the centers of so many pixels in a row, from -1 to 1 across all of them."""
    return (torch.arange(pixels, device=device) * 2 + 1) / pixels - 1


@lru_cache(maxsize=8)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Per channel, as (3, 1, 1); kept on the device, for making a tensor there waits for all it still has to do."""
    mean_row, std_row, luma = (torch.tensor(row, device=device)[:, None, None] for row in (mean, std, _LUMA))
    return mean_row, std_row, luma
