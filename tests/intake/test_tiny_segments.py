"""Files of very many tiny segments, which would keep a decoder busy for minutes, are refused early."""

import io
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from glam.errors import ImageError
from glam.images import read_image
from glam.images.segment_limit import CountedReads

COUNT = 150_000
"""Segments in a file, more than may be read."""


def saved(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 30)).save(file, format)
    return file.getvalue()


def png_with(kind: bytes, content: bytes = b"") -> bytes:
    """A PNG with many equal chunks before its pixels."""
    file = saved("PNG")
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return file[:33] + (len(content).to_bytes(4, "big") + kind + content + checksum) * COUNT + file[33:]


def jpeg_with(segment: bytes) -> bytes:
    """A JPEG with many equal segments before its pixels."""
    file = saved("JPEG")
    return file[:2] + segment * COUNT + file[2:]


def gif_with(block: bytes) -> bytes:
    """A GIF with many equal blocks before its pixels."""
    file = saved("GIF")
    palette = 3 * 2 ** ((file[10] & 7) + 1) if file[10] & 128 else 0
    return file[: 13 + palette] + block * COUNT + file[13 + palette :]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "PNG chunks that nobody knows": lambda: png_with(b"prVt"),
    "PNG chunks without pixels": lambda: png_with(b"IDAT"),
    "PNG texts": lambda: png_with(b"tEXt", b"a\0b"),
    "JPEG segments of Exif": lambda: jpeg_with(b"\xff\xe1\x00\x08Exif\0\0"),
    "JPEG comments": lambda: jpeg_with(b"\xff\xfe\x00\x02"),
    "JPEG fill bytes": lambda: jpeg_with(b"\xff\xff"),
    "GIF comments": lambda: gif_with(b"\x21\xfe\x01a\x00"),
    "GIF zeros": lambda: gif_with(bytes(4)),
    "PPM comments": lambda: b"P6\n" + b"#\n" * COUNT + b"40 30 255\n" + bytes(3600),
    "JPEG 2000 boxes": lambda: saved("JPEG2000")[:12] + (b"\0\0\0\x08free") * COUNT + saved("JPEG2000")[12:],
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_file_of_tiny_segments_is_refused(content: Callable[[], bytes]) -> None:
    with pytest.raises(ImageError, match="too many tiny segments"):
        read_image(content())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "PPM"])
def test_what_follows_an_image_is_not_looked_at(format: str) -> None:
    """Programs append thumbnails, videos, and padding."""
    assert read_image(saved(format) + bytes(12 * COUNT)).size == (40, 30)


def test_a_large_png_of_small_chunks_is_read() -> None:
    """Encoders that write while they compress give chunks of 4 KiB."""
    pixels = zlib.compress(b"".join(b"\0" + bytes(3 * 4000) for _ in range(3000)), level=0)
    chunks = [(b"IHDR", (4000).to_bytes(4, "big") + (3000).to_bytes(4, "big") + b"\x08\x02\0\0\0")]
    chunks += [(b"IDAT", pixels[i : i + 4096]) for i in range(0, len(pixels), 4096)]
    file = b"\x89PNG\r\n\x1a\n"
    for kind, content in [*chunks, (b"IEND", b"")]:
        file += len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    assert read_image(file).size == (4000, 3000)


def test_larger_files_may_be_read_more_often() -> None:
    small, large = CountedReads(io.BytesIO(b"")), CountedReads(io.BytesIO(bytes(51_200_000)))
    for _ in range(100_000):
        small.read(1)
        large.read(1)
    with pytest.raises(OSError, match="too many tiny segments"):
        small.read(1)
    assert large.read(1) == b"\0"
