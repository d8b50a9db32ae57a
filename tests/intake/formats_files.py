"""Image files made byte by byte, as Pillow and its plugins do not write them: metadata, pages, bit depths, RAW."""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.intake.corpus import ALL, Variant, exif

Tag = tuple[int, int, Sequence[Any] | bytes]
"""TIFF tag, type, and values."""


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        f'tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
    ).encode()


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gray(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(image: Image.Image, before: bytes = b"", after: bytes = b"", **options: Any) -> bytes:
    """A PNG with further chunks before and after its pixels."""
    content = encode(image, "PNG", **options)
    first, last = 33, content.rindex(b"IEND") - 4  # the signature and IHDR take 33 bytes
    return content[:first] + before + content[first:last] + after + content[last:]


def png_xmp(image: Image.Image, orientation: int) -> bytes:
    return png_with(image, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(orientation)))


def png_raw_profile(image: Image.Image, orientation: int) -> bytes:
    """EXIF data in hexadecimal digits, as ImageMagick writes them."""
    data = exif(orientation)
    text = f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()
    return png_with(image, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))


def png_long_metadata(image: Image.Image, orientation: int) -> bytes:
    """Texts and a color profile of megabytes, which Pillow refuses."""
    texts = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))) + chunk(
        b"tEXt", b"Note\0" + b"x" * 3_000_000
    )
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000)))
    return png_with(image, profile + texts, texts, exif=exif(orientation))


def png_16_bits(bits: int) -> Callable[[Image.Image, int], bytes]:
    """Colors of ``bits`` bits in 16."""

    def write(image: Image.Image, orientation: int) -> bytes:
        values = np.asarray(image).astype(np.uint32) * ((1 << bits) - 1) // 255
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        header = struct.pack(">IIBBBBB", *image.size, 16, 2, 0, 0, 0)
        exif_chunk = chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))
        pixels = chunk(b"IDAT", zlib.compress(rows))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + exif_chunk + pixels + chunk(b"IEND", b"")

    return write


# PGM and TIFF


def pgm(maxval: int, bits: int | None = None) -> Callable[[Image.Image, int], bytes]:
    """A binary PGM whose values have ``bits`` bits; None for all that ``maxval`` allows."""

    def write(image: Image.Image, orientation: int) -> bytes:
        largest = maxval if bits is None else (1 << bits) - 1
        values = np.asarray(gray(image)).astype(np.uint32) * largest // 255
        header = b"P5\n%d %d\n%d\n" % (*image.size, maxval)
        return header + values.astype(">u2" if maxval > 255 else np.uint8).tobytes()

    return write


def ifd(tags: Sequence[Tag], at: int, after: int = 0) -> bytes:
    """A TIFF directory that lies ``at`` an offset, with its values behind it; the next one lies at ``after``."""
    kinds = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "B", 10: "ii"}
    out, body = struct.pack("<H", len(tags)), b""
    over = at + 2 + 12 * len(tags) + 4
    for tag, kind, values in sorted(tags, key=lambda entry: entry[0]):
        rows = [value if isinstance(value, tuple) else (value,) for value in values]
        data = values if isinstance(values, bytes) else b"".join(struct.pack(f"<{kinds[kind]}", *row) for row in rows)
        out += struct.pack("<HHI", tag, kind, len(values))
        if len(data) <= 4:
            out += data.ljust(4, b"\0")
        else:
            out += struct.pack("<I", over + len(body))
            body += data + b"\0" * (len(data) % 2)
    return out + struct.pack("<I", after) + body


def rgb_page(image: Image.Image, offset: int, kind: int = 0) -> list[Tag]:
    """Tags of an uncompressed page whose pixels lie at an offset; ``kind`` is its NewSubfileType."""
    width, height = image.size
    return [
        *((254, 4, [kind]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [1]), (262, 3, [2])),
        *((273, 4, [offset]), (277, 3, [3]), (278, 4, [height]), (279, 4, [3 * width * height])),
    ]


def two_page_tiff(first: Image.Image, second: Image.Image, first_kind: int) -> bytes:
    """A TIFF of two pages; the first one has the given NewSubfileType."""
    pixels = first.tobytes() + second.tobytes()
    at_second = 8 + 200
    at_pixels = at_second + 200
    head = b"II*\0" + struct.pack("<I", 8)
    one = ifd(rgb_page(first, at_pixels, first_kind), 8, at_second).ljust(200, b"\0")
    two = ifd(rgb_page(second, at_pixels + len(first.tobytes())), at_second).ljust(200, b"\0")
    return head + one + two + pixels


def thumbnail_first(image: Image.Image, orientation: int) -> bytes:
    return two_page_tiff(image.resize((image.width // 4, image.height // 4)), image, 1)


def unmarked_thumbnail_first(image: Image.Image, orientation: int) -> bytes:
    return two_page_tiff(image.resize((image.width // 4, image.height // 4)), image, 0)


def dng(sensor_first: bool) -> Callable[[Image.Image, int], bytes]:
    """A RAW photo: noise of a sensor and a JPEG preview, one in the first directory, one in a sub-directory."""

    def write(image: Image.Image, orientation: int) -> bytes:
        width, height = image.size
        preview = encode(image, "JPEG", quality=95)
        sensor = np.random.default_rng(0).integers(0, 4096, (height, width)).astype("<u2").tobytes()
        at_other, at_preview = 4096, 8192
        at_sensor = at_preview + len(preview) + len(preview) % 2
        identity = [(int(row == column), 1) for row in range(3) for column in range(3)]
        camera: list[Tag] = [
            *((271, 2, b"Camera\0"), (272, 2, b"One\0"), (274, 3, [orientation]), (330, 4, [at_other])),
            *((50706, 1, [1, 4, 0, 0]), (50707, 1, [1, 1, 0, 0]), (50708, 2, b"Camera One\0")),
            *((50721, 10, identity), (50728, 5, [(1, 1)] * 3), (50778, 3, [21])),
        ]
        sensor_tags: list[Tag] = [
            *((254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]), (262, 3, [32803])),
            *((273, 4, [at_sensor]), (277, 3, [1]), (278, 4, [height]), (279, 4, [len(sensor)])),
            *((33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50717, 4, [4095])),
        ]
        preview_tags: list[Tag] = [
            *((254, 4, [1]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [7]), (262, 3, [6])),
            *((273, 4, [at_preview]), (277, 3, [3]), (278, 4, [height]), (279, 4, [len(preview)])),
        ]
        first, other = (sensor_tags, preview_tags) if sensor_first else (preview_tags, sensor_tags)
        content = bytearray(at_sensor + len(sensor))
        for offset, part in (
            (0, b"II*\0" + struct.pack("<I", 8)),
            (8, ifd([*first, *camera], 8)),
            (at_other, ifd(other, at_other)),
            (at_preview, preview),
            (at_sensor, sensor),
        ):
            content[offset : offset + len(part)] = part
        return bytes(content)

    return write


# JPEG XL


def jxl_of_jpeg(image: Image.Image, orientation: int) -> bytes:
    """A JPEG of an orientation, transcoded without loss, as ``cjxl`` does by default."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.jpg")
        image.save(file, exif=exif(orientation), quality=95)
        with Image.open(file) as jpeg:
            return encode(jpeg, "JXL", lossless_jpeg=True)


def jxl_codestream(image: Image.Image, orientation: int) -> bytes:
    """The orientation in the codestream, and another one in the EXIF data, which does not count beside it.

    `pillow_jxl` writes no orientation, so it is put into the header of a lossless image, whose fields are known.
    """
    bare = encode(image, "JXL", lossless=True)
    assert bare[:2] == b"\xff\x0a", "a bare codestream"
    bits = [(byte >> place) & 1 for byte in bare for place in range(8)]
    place = 16
    is_small = bits[place]
    place += 1

    def skip_size() -> int:
        selector = bits[place] | bits[place + 1] << 1
        return place + 2 + (9, 13, 18, 30)[selector]

    place = place + 5 if is_small else skip_size()
    ratio = bits[place] | bits[place + 1] << 1 | bits[place + 2] << 2
    place += 3
    if not ratio:
        place = place + 5 if is_small else skip_size()
    assert bits[place : place + 2] == [0, 0], "neither default nor with extra fields"
    rest = bits[
        place + 2 : place + 13
    ]  # bit depth, modular 16-bit, no extra channels, XYB, color, extensions, transform
    end = -(-(place + 13) // 8) * 8
    orientation_bits = [(orientation - 1) >> bit & 1 for bit in range(3)]
    tone_mapping = [1]  # default
    fields = [0, 1, *orientation_bits, 0, 0, 0, *rest[:8], *tone_mapping, *rest[8:]]
    header = bits[:place] + fields
    header += [0] * (-len(header) % 8)
    codestream = (
        bytes(
            sum(bit << shift for shift, bit in enumerate(header[first : first + 8]))
            for first in range(0, len(header), 8)
        )
        + bare[end // 8 :]
    )
    other = orientation % 8 + 1 if orientation > 1 else 1
    return _jxl_container(codestream, exif(other).removeprefix(b"Exif\0\0"))


def _jxl_container(codestream: bytes, exif_data: bytes) -> bytes:
    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data) + 8) + kind + data

    signature = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
    return signature + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"Exif", bytes(4) + exif_data) + box(b"jxlc", codestream)


FURTHER = {
    "JPEG with XMP": Variant(".jpg", lambda image, turn: encode(image, "JPEG", xmp=xmp(turn), quality=95), False, ALL),
    "PNG with XMP": Variant(".png", png_xmp, True, ALL),
    "PNG of ImageMagick": Variant(".png", png_raw_profile, True, ALL),
    "PNG with long metadata": Variant(".png", png_long_metadata, True, ALL),
    "16-bit color PNG": Variant(".png", png_16_bits(16), True, ALL),
    "12-bit color PNG": Variant(".png", png_16_bits(12), True, ALL),
    "TIFF with a thumbnail first": Variant(".tif", thumbnail_first),
    "TIFF with an unmarked thumbnail first": Variant(".tif", unmarked_thumbnail_first),
    "JPEG 2000 codestream": Variant(".j2k", lambda image, turn: encode(image, "JPEG2000", no_jp2=True)),
    "12-bit PGM": Variant(".pgm", pgm(4095), gray=True),
    "12-bit PGM with a maximum of 16": Variant(".pgm", pgm(65535, 12), gray=True),
    "JPEG XL turned by its codestream": Variant(".jxl", jxl_codestream, True, ALL),
    "JPEG XL of a JPEG": Variant(".jxl", jxl_of_jpeg, False, ALL),
    "DNG in every orientation": Variant(".dng", dng(sensor_first=False), False, ALL),
    "DNG with sensor data first": Variant(".dng", dng(sensor_first=True), False, ALL),
}
"""Variants beyond those of `tests.intake.corpus`, by name."""
