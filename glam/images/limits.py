"""Limits that are checked before anything is decoded."""

from glam.errors import ImageError, TooLargeError

MAX_PIXELS = 178_000_000
"""Maximum width times height. Larger images are refused before they are decoded, because a small file can expand to any
size. The value is where Pillow raises an error itself."""

MAX_BYTES = 2_000_000_000
"""Maximum size of an image file. An uncompressed image of 178 megapixels with four channels of 16 bits has 1.4 GB."""


def check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    """Checks the size of an image before it is decoded.

    Args:
        size: width and height in pixels.
        max_pixels: maximum width times height.
        name: name of the image for error messages.

    Raises:
        TooLargeError: the image has more than ``max_pixels``.
        ImageError: the image has no pixels.
    """
    width, height = size
    if width <= 0 or height <= 0:
        raise ImageError(name, f"{width} x {height} pixels, so the image is empty")
    if width * height > max_pixels:
        millions = width * height / 1e6
        raise TooLargeError(name, f"{millions:.0f} megapixels, more than the limit of {max_pixels / 1e6:.0f}")


def check_bytes(size: int, max_bytes: int, name: str) -> None:
    """Checks the size of a file before it is read.

    Args:
        size: size of the file in bytes.
        max_bytes: maximum size.
        name: name of the image for error messages.

    Raises:
        TooLargeError: the file is larger.
    """
    if size > max_bytes:
        raise TooLargeError(name, f"a file of {size / 1e6:,.0f} MB, more than the limit of {max_bytes / 1e6:,.0f}")
