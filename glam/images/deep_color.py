"""Colors of 10 to 14 bits that a file stores in 16, which Pillow reduces to the nearly black upper byte."""

import sys
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from glam.images.strips import bit_depth, strips

_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order that gives the lower byte where Pillow takes the upper one; N is that of the machine."""


class _Stored(NamedTuple):
    """How an image that is not decoded yet is stored.

    Attributes:
        file: its file.
        format: its format, by Pillow's name.
        page: its page in the file.
    """

    file: Any
    format: str
    page: int


def load_pixels(image: Image.Image) -> None:
    """Decodes an image; colors that use 14 bits of 16 or fewer get the full range of 8 bits.

    Args:
        image: image opened by Pillow.
    """
    stored = _stored_deep_color(image)
    image.load()
    if stored is None or image.mode not in ("RGB", "RGBA"):
        return
    upper = max(int(np.asarray(image.crop((0, top, image.width, end)))[..., :3].max()) for top, end in strips(image))
    shift = bit_depth((upper << 8) + 255) - 8
    if shift == 8:
        return
    with suppress(Exception):  # Pillow has no decoder for this byte order: the image stays dark
        _add_lower_bytes(image, _decode_lower_bytes(stored), shift)


def _stored_deep_color(image: Image.Image) -> _Stored | None:
    """How an image is stored, if it has several channels of 16 bits and is not decoded yet."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("PNG", "TIFF"):
        return None
    if not image.tile or not any(";16" in _rawmode(tile) for tile in image.tile) or image.mode.startswith("I"):
        return None
    return _Stored(image.fp, image.format, image.tell())


def _decode_lower_bytes(stored: _Stored) -> Image.Image:
    stored.file.seek(0)
    image = Image.open(stored.file, formats=(stored.format,))
    assert isinstance(image, ImageFile.ImageFile)
    image.seek(stored.page)
    image.tile = [tile._replace(args=_swap(tile.args)) for tile in image.tile]
    image.load()
    return image


def _add_lower_bytes(image: Image.Image, lower: Image.Image, shift: int) -> None:
    """Replaces the upper bytes of an image by the 8 bits above the lowest ``shift`` bits, except in its alpha."""
    for top, end in strips(image):
        box = (0, top, image.width, end)
        values, low = np.array(image.crop(box)), np.asarray(lower.crop(box))
        values[..., :3] = (values[..., :3] << (8 - shift)) | (low[..., :3] >> shift)
        image.paste(Image.fromarray(values), (0, top))


def _rawmode(tile: Any) -> str:
    return str(tile.args if isinstance(tile.args, str) else tile.args[0])


def _swap(args: Any) -> Any:
    """The arguments of a Pillow decoder for the other byte order."""
    if isinstance(args, tuple):
        return (_swap(args[0]), *args[1:])
    return args[:-1] + _SWAPPED[args[-1]]
