"""Boxes: parts of upright images."""

from typing import TypeAlias

import numpy as np
from PIL import Image

from glam.errors import ImageError

Box: TypeAlias = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright image; x to the right and y down from its top left corner."""


def crop_image(image: Image.Image, box: Box, name: str) -> Image.Image:
    """Crops an image to a box, clipped to the image and rounded outward to integer coordinates.

    Args:
        image: upright image.
        box: x1, y1, x2, y2 in pixels of the image.
        name: name of the image for error messages.

    Raises:
        ImageError: the box is empty or outside the image.
    """
    return image.crop(pixel_box(box, image.width, image.height, name))


def pixel_box(box: Box, width: int, height: int, name: str) -> tuple[int, int, int, int]:
    """Clips a box to an image and rounds it outward to integer coordinates.

    Args:
        box: x1, y1, x2, y2 in pixels of the upright image.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        name: name of the image for error messages.

    Returns:
        left, top, right, bottom in pixels; right and bottom are exclusive.

    Raises:
        ImageError: the box is empty or outside the image.
    """
    x1, y1, x2, y2 = box
    if not all(np.isfinite(box)) or x2 <= x1 or y2 <= y1:
        raise ImageError(name, f"the box {box} is empty; choose x1 < x2 and y1 < y2")
    left, top = max(int(np.floor(x1)), 0), max(int(np.floor(y1)), 0)
    right, bottom = min(int(np.ceil(x2)), width), min(int(np.ceil(y2)), height)
    if right <= left or bottom <= top:
        raise ImageError(name, f"the box {box} is outside the image, which has {width} x {height} pixels")
    return left, top, right, bottom
