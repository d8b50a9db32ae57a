"""Conversion of decoded images to 8-bit RGB, in strips, so that a large image needs little further memory."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glam.images.strips import STRIP_PIXELS, bit_depth, strips

SCALED = "glam_scaled"
"""Entry of `Image.info` that says whether the decoder has scaled the values to 16 bits, as the header says; if not, or
without this entry, the values themselves tell how many bits they use."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Decodes an image and converts it to RGB, from any Pillow mode; transparent images are placed on white.

    Args:
        image: image opened by Pillow, upright or not.
    """
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return _to_gray(image, _shift_of(image)).convert("RGB")
    if image.mode in ("I", "F"):
        return _to_gray(image, _stretch_of(image)).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def array_to_image(array: NDArray[np.generic]) -> Image.Image:
    """Converts an array to an image of 8 bits per channel.

    Args:
        array: (h, w), (h, w, 1), (h, w, 3), or (h, w, 4), of uint8 in [0, 255], uint16 in [0, 65535], or floating point
            in [0, 1].

    Raises:
        ValueError: the shape or the type is another one.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"an array of shape {array.shape} is not an image; pass (h, w), (h, w, 3), or (h, w, 4)")
    if array.dtype == np.uint8:
        return Image.fromarray(array.astype(np.uint8, copy=False))
    if array.dtype == np.uint16:
        return Image.fromarray((array.astype(np.uint16, copy=False) >> 8).astype(np.uint8))
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an array of {array.dtype} is not an image; pass uint8, uint16, or floating point")
    result = np.empty(array.shape, dtype=np.uint8)
    rows = max(1, STRIP_PIXELS // array.shape[1])
    for top in range(0, array.shape[0], rows):
        values = np.clip(_finite(array[top : top + rows]), 0, 1)
        result[top : top + rows] = (values * 255).round()
    return Image.fromarray(result)


def _values(image: Image.Image) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """First row and pixel values of each strip of an image."""
    for top, end in strips(image):
        yield top, np.asarray(image.crop((0, top, image.width, end)))


def _to_gray(image: Image.Image, convert: Callable[[NDArray[np.generic]], NDArray[np.uint8]]) -> Image.Image:
    """An image of 8 bits, converted strip by strip."""
    gray = Image.new("L", image.size)
    for top, values in _values(image):
        gray.paste(Image.fromarray(convert(values)), (0, top))
    return gray


def _shift_of(image: Image.Image) -> Callable[[NDArray[np.generic]], NDArray[np.uint8]]:
    """The conversion of a 16-bit image that uses 8, 10, 12, 14, or all bits."""
    shift = bit_depth(max(int(values.astype(np.uint16).max()) for _, values in _values(image))) - 8
    return lambda values: (values.astype(np.uint16) >> shift).astype(np.uint8)


def _stretch_of(image: Image.Image) -> Callable[[NDArray[np.generic]], NDArray[np.uint8]]:
    """The conversion of 32-bit numbers: by their bits for integers that fit in 16, else by their range."""
    ranges = [
        (float(values.min()), float(values.max())) for values in (_finite(values) for _, values in _values(image))
    ]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low >= 0 and high <= 65535 and image.mode == "I":
        low, high = 0.0, 65535.0 if image.info.get(SCALED) else float((1 << bit_depth(int(high))) - 1)
    scale = max(high - low, 1e-12)
    return lambda values: ((_finite(values) - low) / scale * 255).round().astype(np.uint8)


def _finite(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.nan_to_num(values.astype(np.float32))


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent image on white."""
    result = Image.new("RGB", image.size)
    for top, end in strips(image):
        over = image.crop((0, top, image.width, end)).convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        result.paste(Image.alpha_composite(white, over).convert("RGB"), (0, top))
    return result
