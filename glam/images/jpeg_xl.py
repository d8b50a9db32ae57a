"""JPEG XL images: their size and orientation, which the decoder tells only after it has decoded everything.

The header is that of ISO/IEC 18181-1, sections D.2 (SizeHeader) and D.3 (ImageMetadata).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, BinaryIO, cast

from PIL import Image

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Ratios of width to height by number, from 1."""

_HEADER = 4096
"""Bytes that are looked through for the beginning of the codestream in a box of the container; arbitrary."""


def is_jpeg_xl(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a JPEG XL image."""
    return head.startswith((_CODESTREAM, _CONTAINER))


def open_jpeg_xl(file: BinaryIO, check_size: Callable[[tuple[int, int]], None]) -> Image.Image:
    """Decodes a JPEG XL image after its size was checked.

    Args:
        file: the image, open for reading at its start.
        check_size: called with the width and height in pixels before anything is decoded; raises an error if the image
            is too large.

    Raises:
        Exception: the header or the image cannot be read.
    """
    width, height, is_turned = read_header(file)
    check_size((width, height))
    file.seek(0)
    import_module("pillow_jxl")  # registers the format
    image = Image.open(cast(Any, file), formats=("JXL",))
    if is_turned:  # the decoder has turned it, so its EXIF data no longer hold
        image.info.pop("exif", None)
    return image


def read_header(file: BinaryIO) -> tuple[int, int, bool]:
    """Reads the width and height in pixels, and whether the decoder will turn the image.

    Args:
        file: the image, open for reading at its start.

    Raises:
        ValueError: there is no codestream.
    """
    bits = _Bits(_codestream(file))
    bits.take(16)
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.size()
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        width = height * across // down
    else:
        width = 8 * (bits.take(5) + 1) if is_small else bits.size()
    all_default = bits.take(1)
    has_orientation = not all_default and bits.take(1)
    return width, height, bool(has_orientation and bits.take(3))


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        """The next bits as a number."""
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value

    def size(self) -> int:
        """A width or height, of 9, 13, 18, or 30 bits."""
        return self.take((9, 13, 18, 30)[self.take(2)]) + 1


def _codestream(file: BinaryIO) -> bytes:
    """The first bytes of the codestream."""
    head = file.read(12)
    if head.startswith(_CODESTREAM):
        return head
    while len(box := file.read(8)) == 8:
        size, kind = int.from_bytes(box[:4], "big"), box[4:]
        if size == 1:
            size = int.from_bytes(file.read(8), "big") - 8
        if kind in (b"jxlc", b"jxlp"):
            return file.read(_HEADER)[4 if kind == b"jxlp" else 0 :][:32]
        if size < 8:
            break
        file.seek(size - 8, 1)
    raise ValueError("damaged JPEG XL header")
