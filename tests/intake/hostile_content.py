"""Contents of the files of a hostile tree: small distinct images, and what is no image."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

FORMATS = {".jpg": "JPEG", ".JPG": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""Suffixes of the good images, and Pillow's name of the format."""

UNREAD_SUFFIXES = (".psd", ".mov", ".svg", ".xmp", ".txt", ".zip")
"""Suffixes of files that a scan counts as a format that is not read."""


def draw_image(rng: random.Random, suffix: str = ".jpg") -> bytes:
    """The content of a good image, different each time.

    Args:
        rng: source of randomness.
        suffix: one of `FORMATS`.
    """
    coarse = Image.frombytes("RGB", (5, 4), rng.randbytes(60))
    size = rng.randint(24, 60), rng.randint(24, 60)
    return _save(coarse.resize(size, Image.Resampling.BICUBIC), FORMATS[suffix])


class BrokenContent(NamedTuple):
    """A content that cannot be read as an image.

    Attributes:
        suffix: suffix of an image that a file with it has.
        make: makes the content.
    """

    suffix: str
    make: Callable[[random.Random], bytes]


def _save(image: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def _cut(suffix: str) -> Callable[[random.Random], bytes]:
    """The beginning of a good image."""

    def make(rng: random.Random) -> bytes:
        content = draw_image(rng, suffix)
        return content[: len(content) * rng.randint(2, 7) // 10]

    return make


def _huge_png(rng: random.Random) -> bytes:
    """A PNG whose header claims 3.6 gigapixels."""
    content = bytearray(draw_image(rng, ".png"))
    struct.pack_into(">II", content, 16, 60_000, 60_000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    return bytes(content)


def _huge_bmp(rng: random.Random) -> bytes:
    content = bytearray(_save(Image.new("RGB", (8, 8)), "BMP"))
    struct.pack_into("<ii", content, 18, 2**31 - 1, 2**31 - 1)
    return bytes(content)


def _zip(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", draw_image(rng))
    return file.getvalue()


def _with_number(text: bytes) -> Callable[[random.Random], bytes]:
    """A text that differs each time."""
    return lambda rng: text + b"\n%d\n" % rng.getrandbits(32)


BROKEN = {
    "empty": BrokenContent(".jpg", lambda rng: b""),
    "cut JPEG": BrokenContent(".jpg", _cut(".jpg")),
    "cut PNG": BrokenContent(".png", _cut(".png")),
    "cut WebP": BrokenContent(".webp", _cut(".webp")),
    "zeros": BrokenContent(".jpg", lambda rng: bytes(rng.randint(1, 5_000))),
    "noise": BrokenContent(".png", lambda rng: rng.randbytes(rng.randint(1, 5_000))),
    "HTML": BrokenContent(".jpg", _with_number(b"<!DOCTYPE html><html><body>404</body></html>")),
    "SVG": BrokenContent(".png", _with_number(b'<svg xmlns="http://www.w3.org/2000/svg"/>')),
    "EPS": BrokenContent(".jpg", _with_number(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF")),
    "PDF": BrokenContent(".jpg", lambda rng: _save(Image.new("RGB", (9, 9)), "PDF") + rng.randbytes(4)),
    "DDS": BrokenContent(".jpg", lambda rng: _save(Image.frombytes("RGB", (4, 4), rng.randbytes(48)), "DDS")),
    "ZIP": BrokenContent(".jpg", _zip),
    "huge PNG": BrokenContent(".png", _huge_png),
    "huge BMP": BrokenContent(".bmp", _huge_bmp),
}
"""Contents that are no image, by name."""
