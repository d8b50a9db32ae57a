"""JPEG XL images, whose pixels are decoded when they are needed; the Pillow plugin decodes them at opening.

The header is that of ISO/IEC 18181-1, sections D.2 (SizeHeader) and D.3 (ImageMetadata), and the container that of
ISO/IEC 18181-2.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple, cast

from PIL import Image, ImageFile

from glam.images.orientation import TURN

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Ratios of width to height by number, from 1."""

_TIFF_HEADS = (b"II*\0", b"MM\0*")

_HEADER_BYTES = 32
"""Bytes at the start of a codestream that hold the size and the orientation, with room to spare."""


class JpegXLHeader(NamedTuple):
    """Header of a JPEG XL image.

    Attributes:
        size: width and height in pixels before the orientation is applied.
        orientation: orientation in the codestream, 1 to 8.
        exif: EXIF data; b"" if there are none, or the codestream has an orientation, which replaces theirs.
    """

    size: tuple[int, int]
    orientation: int
    exif: bytes


class JpegXLFile(ImageFile.ImageFile):
    """A JPEG XL image, upright by the orientation of its codestream. Until it is decoded, its mode is always RGB."""

    format = "JXL"
    format_description = "JPEG XL"

    def _open(self) -> None:
        header = read_header(cast(BinaryIO, self.fp))
        self._orientation = header.orientation
        self._size = header.size if header.orientation < 5 else header.size[::-1]
        self._mode = "RGB"
        if header.exif:
            self.info["exif"] = header.exif

    def load(self) -> Any:
        """Decodes the pixels.

        Raises:
            Exception: they cannot be decoded, or their size is not that of the header.
        """
        if self._im is None:
            decoded = self._decode()
            if decoded.size != self.size:
                across, down = decoded.size
                raise ValueError(f"{across} x {down} pixels, but {self.width} x {self.height} in the header")
            self._mode = decoded.mode
            self.im = decoded.im
        return super().load()

    def _decode(self) -> Image.Image:
        import_module("pillow_jxl")  # registers the format
        file = cast(BinaryIO, self.fp)
        file.seek(0)
        decoded = Image.open(file, formats=("JXL",))
        decoded.load()
        # The decoder turns images upright, except those that it reconstructs as the JPEG they were made from.
        is_turned = not getattr(decoded, "jpeg", False)
        return decoded if is_turned or self._orientation == 1 else decoded.transpose(TURN[self._orientation])


def is_jpeg_xl(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a JPEG XL image."""
    return head.startswith((_CODESTREAM, _CONTAINER))


def read_header(file: BinaryIO) -> JpegXLHeader:
    """Reads the header of a JPEG XL image.

    Args:
        file: the image, open for reading at its start.

    Raises:
        ValueError: there is no codestream.
    """
    codestream, exif = b"", b""
    for kind, offset, length in _boxes(file):
        file.seek(offset)
        if kind in (b"jxlc", b"jxlp") and not codestream:
            codestream = file.read(_HEADER_BYTES + 4)[4 if kind == b"jxlp" else 0 :]
        elif kind == b"Exif":
            exif = _exif_of(file.read(length))
    if not codestream.startswith(_CODESTREAM):
        raise ValueError("no JPEG XL header")
    size, orientation = _read_codestream(codestream)
    return JpegXLHeader(size, orientation, exif if orientation == 1 else b"")


def _exif_of(box: bytes) -> bytes:
    """The EXIF data in a box, which begins with the offset of their TIFF header; some encoders leave it out."""
    return box[4:] if box[4:8] in _TIFF_HEADS else box


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, offset, and size in bytes of the content of each box; a bare codestream counts as one."""
    if file.read(2) == _CODESTREAM:
        yield b"jxlc", 0, -1
        return
    offset = 0
    while True:
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, start = int.from_bytes(head[8:], "big"), 16
        yield kind, offset + start, size - start if size else -1
        if size < start:  # 0: the last box
            return
        offset += size


def _read_codestream(data: bytes) -> tuple[tuple[int, int], int]:
    """Width and height in pixels before the orientation is applied, and the orientation."""
    bits = _Bits(data)
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
    return (width, height), 1 + bits.take(3) if has_orientation else 1


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
