"""PyTorch dataset of images, indexed by the draws of `glam.datasets.sampler.SizeBatchSampler`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from glam.datasets.collection import Collection
from glam.datasets.sampler import Draw
from glam.errors import ImageError
from glam.images import read_upright_size
from glam.inference.decode import prepare, resize
from glam.stage_times import Times

Item = tuple[Tensor, int, int]
"""(h, w, 3) uint8 image, its landmark id, its index in the collection."""


class ImageDataset(Dataset[Item]):
    """Images of a collection, read as for computing descriptors.

    Args:
        collection: the images.
        longest: longest side in pixels, which the sizes of the draws have, too.
        multiple: the sides are multiples of this, in pixels.
    """

    def __init__(self, collection: Collection, longest: int, multiple: int) -> None:
        self.collection = collection
        self.longest = longest
        self.multiple = multiple

    def __len__(self) -> int:
        return len(self.collection)

    def __getitem__(self, draw: Draw) -> Item:
        file = self.collection.file(draw.index)
        pixels = prepare(file, None, self.longest, self.multiple, Times()).pixels
        assert pixels is not None, "only deferred images have none"
        pixels = resize(pixels, draw.size)  # of another size if a manifest gives the wrong shape
        return pixels, int(self.collection.landmark_ids[draw.index]), draw.index


def mixed_seed(*parts: int) -> int:
    """Combines several integers into one seed that is the same in every process."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def read_shapes(collection: Collection) -> list[tuple[int, int] | ImageError]:
    """Reads the shapes of all images that the collection does not list, from the headers of their files.

    Returns:
        For each image, the (width, height) of the upright image in pixels, or the error if its header cannot be read.
    """
    unknown = [i for i, image in enumerate(collection.images) if image.shape is None]
    with ThreadPoolExecutor() as pool:
        read = dict(zip(unknown, pool.map(_read_shape, map(collection.file, unknown)), strict=True))
    return [read[i] if image.shape is None else image.shape for i, image in enumerate(collection.images)]


def split_readable(collection: Collection) -> tuple[Collection, list[tuple[int, int]], list[ImageError]]:
    """Splits a collection into readable and unreadable images.

    Only headers are read. An image whose shape the collection lists counts as readable without being opened.

    Returns:
        The collection of the readable images, their shapes as (width, height) in pixels, and the errors of the others.
    """
    shapes = read_shapes(collection)
    kept = [i for i, shape in enumerate(shapes) if not isinstance(shape, ImageError)]
    images = tuple(collection.images[i] for i in kept)
    good = [shape for shape in shapes if not isinstance(shape, ImageError)]
    bad = [shape for shape in shapes if isinstance(shape, ImageError)]
    return replace(collection, images=images), good, bad


def _read_shape(file: Path) -> tuple[int, int] | ImageError:
    try:
        return read_upright_size(file)
    except ImageError as error:
        return error
