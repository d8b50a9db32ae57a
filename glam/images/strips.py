"""Strips of rows, in which large images are converted, and the bit depths of their values."""

from collections.abc import Iterator

from PIL import Image

STRIP_PIXELS = 1 << 20
"""Pixels that are converted at a time; arbitrary. The copies of a strip in 32 bits take some 16 MB."""

_DEPTHS = (8, 10, 12, 14)
"""Bits that instruments and cameras use of the 16 that a file stores."""


def strips(image: Image.Image) -> Iterator[tuple[int, int]]:
    """First row and end of each strip of an image."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, min(top + rows, image.height)


def bit_depth(largest: int) -> int:
    """Number of bits that an image uses, 8, 10, 12, 14, or 16.

    Args:
        largest: largest value in the image, below 65,536.
    """
    return next((depth for depth in _DEPTHS if largest < 1 << depth), 16)
