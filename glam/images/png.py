"""PNG metadata: the EXIF data wherever they are, without decoding pixels, and the file without long texts and profiles.

Pillow decodes the pixels to look for EXIF data after them, and refuses images with long texts or color profiles.
"""

import io
import os
import zlib
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\0\0"
"""Start of a text with uncompressed XMP data, which may hold the orientation."""
_RAW_EXIF = b"Raw profile type exif\0"
"""Start of a text with EXIF data in hexadecimal digits, as ImageMagick writes it."""
_MAX_TEXT = 1 << 20
"""Bytes of the longest text that is read; arbitrary. EXIF data of cameras have at most 64 KB."""


class _Chunk(NamedTuple):
    """A chunk of a PNG: its kind, and the offset and size of its data in bytes."""

    kind: bytes
    offset: int
    size: int


def strip_metadata(file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Removes texts and color profiles from a PNG.

    Args:
        file: the PNG, open for reading.

    Returns:
        The file itself if it has none of them, else a copy without them, and the EXIF data, b"" if there are none.
    """
    kept, is_stripped, exif = [], False, b""
    for chunk in _chunks(file):
        if chunk.kind == b"eXIf" and not exif:
            exif = _read(file, chunk)
        elif chunk.kind in _TEXTS and not exif:
            exif = _raw_exif(chunk, _read(file, chunk, _MAX_TEXT))
        if chunk.kind == b"iCCP" or (chunk.kind in _TEXTS and not _is_xmp(file, chunk)):
            is_stripped = True
        else:
            kept.append(chunk)
    if not is_stripped:
        return file, exif
    stripped = io.BytesIO()
    stripped.write(SIGNATURE)
    for chunk in kept:
        file.seek(chunk.offset - 8)
        stripped.write(file.read(chunk.size + 12))  # with its size and kind before, and its checksum after
    stripped.seek(0)
    return stripped, exif


def _chunks(file: BinaryIO) -> list[_Chunk]:
    """The chunks of a PNG up to its end. The last one may be cut."""
    chunks, offset = [], len(SIGNATURE)
    end = file.seek(0, os.SEEK_END)
    while offset + 8 <= end:
        file.seek(offset)
        head = file.read(8)
        chunk = _Chunk(head[4:], offset + 8, int.from_bytes(head[:4], "big"))
        chunks.append(chunk)
        if chunk.kind == b"IEND":
            break
        offset += chunk.size + 12
    return chunks


def _read(file: BinaryIO, chunk: _Chunk, most: int | None = None) -> bytes:
    """The data of a chunk, or the first ``most`` bytes."""
    file.seek(chunk.offset)
    return file.read(chunk.size if most is None else min(chunk.size, most))


def _is_xmp(file: BinaryIO, chunk: _Chunk) -> bool:
    """Whether a text is XMP data that is read."""
    return chunk.kind == b"iTXt" and chunk.size <= _MAX_TEXT and _read(file, chunk, len(_XMP)) == _XMP


def _raw_exif(chunk: _Chunk, data: bytes) -> bytes:
    """The EXIF data in a text; b"" if there are none, or they are damaged or too long."""
    if not data.startswith(_RAW_EXIF) or chunk.kind == b"iTXt":
        return b""
    text = data[len(_RAW_EXIF) :]
    try:
        if chunk.kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_TEXT)
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return b""
