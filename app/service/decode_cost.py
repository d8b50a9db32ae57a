"""Peak memory of decoding an image, estimated from the header of its file before anything is decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image

from glam.images import draft, image_errors, open_image

T = TypeVar("T")

JPEG_BYTES, PROGRESSIVE_BYTES, RGB_BYTES, CONVERTED_BYTES, CANVAS_BYTES = 1, 7, 16, 25, 34
"""Bytes of memory per pixel at the peak, as `benchmarks/decode_memory.py` measures it, rounded up: for each pixel of a
JPEG or progressive JPEG that is decoded at a reduced size; for each pixel that is decoded to RGB; to RGB from
transparency, integers, or floats; by a decoder with canvases of its own."""

CANVAS_FORMATS = frozenset({"WEBP", "AVIF", "HEIF", "JPEG2000", "JXL"})


@dataclass(frozen=True)
class Decode(Generic[T]):
    """An image to decode.

    Attributes:
        cost: estimated peak memory in bytes.
        run: decodes the image, and returns what is needed of it.
        serial: whether to run it after other such work instead of at the same time, because it takes long.
    """

    cost: int
    run: Callable[[], T]
    serial: bool = False


def decode_cost(source: Path | bytes, reduce_to: int | None = None) -> int:
    """Estimates the peak memory in bytes of decoding an image.

    Args:
        source: path of the file, or its content.
        reduce_to: longest side in pixels that is needed, so that a JPEG is decoded at a reduced size; None for all.

    Raises:
        ImageError: the header cannot be read.
    """
    with image_errors(source), open_image(source) as image:
        return cost_of_opened(image, reduce_to)


def cost_of_opened(image: Image.Image, reduce_to: int | None = None) -> int:
    """`decode_cost` of an image that is opened and not decoded; its decoder is asked for the reduced size."""
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        # The coefficients of a progressive JPEG are in memory at full size.
        header = PROGRESSIVE_BYTES if image.info.get("progressive") else JPEG_BYTES
        if reduce_to is not None:
            draft(image, reduce_to)
        return header * pixels + RGB_BYTES * image.width * image.height
    if image.format in CANVAS_FORMATS:
        return CANVAS_BYTES * pixels
    if image.has_transparency_data or image.mode in ("I", "F"):
        return CONVERTED_BYTES * pixels
    return RGB_BYTES * pixels
