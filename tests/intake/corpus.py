"""Image files of every format and variant that is read, in every orientation that they can carry.

    picture --turned--> stored pixels --Variant.write--> content of a file

No tool is needed but the libraries that read the formats: what they do not write is written here, byte by byte.
"""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 (registers JPEG XL)
from PIL import Image

from glam.images import ORIENTATION

pillow_heif.register_heif_opener()

ALL = tuple(range(1, 9))
ONE = (1,)

STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How the pixels of an upright picture are stored, by orientation."""

Tag = tuple[int, int, Sequence[Any] | bytes]
"""TIFF tag, type, and values."""


@dataclass(frozen=True)
class Variant:
    """A format with its options.

    Attributes:
        name: name of the variant.
        suffix: suffix of its files.
        write: from stored pixels, RGB, and an orientation to the content of a file.
        lossless: whether the pixels stay what they are.
        orientations: orientations that the format can carry.
        reference: from the picture to what the file can hold of it, such as gray.
    """

    name: str
    suffix: str
    write: Callable[[Image.Image, int], bytes]
    lossless: bool
    orientations: tuple[int, ...] = ONE
    reference: Callable[[Image.Image], Image.Image] = lambda picture: picture

    def content(self, picture: Image.Image, orientation: int = 1) -> bytes:
        """The content of a file that shows an upright picture, RGB."""
        turned = picture if orientation == 1 else picture.transpose(STORED[orientation])
        return self.write(turned, orientation)


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data.tobytes()


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


def pillow(format: str, **options: Any) -> Callable[[Image.Image, int], bytes]:
    """Writes by Pillow, with the orientation in the EXIF data."""
    return lambda image, orientation: encode(image, format, exif=exif(orientation), **options)


def plain(format: str, mode: str = "RGB", **options: Any) -> Callable[[Image.Image, int], bytes]:
    """Writes by Pillow in a mode, without metadata."""
    return lambda image, orientation: encode(image.convert(mode), format, **options)


def gray(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


def black_and_white(picture: Image.Image) -> Image.Image:
    return picture.convert("1")


def mpo(image: Image.Image, orientation: int) -> bytes:
    return encode(image, "MPO", save_all=True, append_images=[image.rotate(180)], exif=exif(orientation), quality=95)


def cmyk_jpeg(image: Image.Image, orientation: int) -> bytes:
    return encode(image.convert("CMYK"), "JPEG", exif=exif(orientation), quality=95)


def rgba_on_white(format: str, **options: Any) -> Callable[[Image.Image, int], bytes]:
    """Opaque everywhere, so that the white below does not show."""
    return lambda image, orientation: encode(image.convert("RGBA"), format, exif=exif(orientation), **options)


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(image: Image.Image, before: bytes = b"", after: bytes = b"", **options: Any) -> bytes:
    """A PNG with further chunks before and after its pixels."""
    content = encode(image, "PNG", **options)
    first, last = 33, content.rindex(b"IEND") - 4  # the signature and IHDR take 33 bytes
    return content[:first] + before + content[first:last] + after + content[last:]


def png_late_exif(image: Image.Image, orientation: int) -> bytes:
    return png_with(image, after=chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0")))


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


def gray_16_bits(format: str, bits: int) -> Callable[[Image.Image, int], bytes]:
    def write(image: Image.Image, orientation: int) -> bytes:
        values = np.asarray(gray(image)).astype(np.uint32) * ((1 << bits) - 1) // 255
        return encode(Image.fromarray(values.astype(np.uint16)), format)

    return write


def apng(image: Image.Image, orientation: int) -> bytes:
    frames = [image.rotate(180)]
    return encode(image, "PNG", save_all=True, append_images=frames, exif=exif(orientation))


# PGM and TIFF


def pgm(maxval: int, bits: int | None = None) -> Callable[[Image.Image, int], bytes]:
    """A binary PGM whose values have ``bits`` bits; None for all that ``maxval`` allows."""

    def write(image: Image.Image, orientation: int) -> bytes:
        largest = maxval if bits is None else (1 << bits) - 1
        values = np.asarray(gray(image)).astype(np.uint32) * largest // 255
        header = b"P5\n%d %d\n%d\n" % (*image.size, maxval)
        return header + values.astype(">u2" if maxval > 255 else np.uint8).tobytes()

    return write


def ascii_ppm(image: Image.Image, orientation: int) -> bytes:
    values = " ".join(map(str, np.asarray(image).reshape(-1)))
    return b"P3\n# by hand\n%d %d\n255\n" % image.size + values.encode()


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


def further_pages(image: Image.Image, orientation: int) -> bytes:
    return two_page_tiff(image, image.rotate(180), 0)


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


VARIANTS = [
    Variant("JPEG", ".jpg", pillow("JPEG", quality=95), False, ALL),
    Variant("JPEG progressive", ".jpeg", pillow("JPEG", quality=95, progressive=True), False, ALL),
    Variant("JPEG CMYK", ".jpg", cmyk_jpeg, False, ALL),
    Variant("JPEG gray", ".jpg", lambda i, o: encode(gray(i), "JPEG", exif=exif(o), quality=95), False, ALL, gray),
    Variant("JPEG with XMP", ".jpg", lambda i, o: encode(i, "JPEG", xmp=xmp(o), quality=95), False, ALL),
    Variant("JPEG with several pictures", ".mpo.jpg", mpo, False, ALL),
    Variant("PNG", ".png", pillow("PNG"), True, ALL),
    Variant("PNG with EXIF after the pixels", ".png", png_late_exif, True, ALL),
    Variant("PNG with XMP", ".png", png_xmp, True, ALL),
    Variant("PNG of ImageMagick", ".png", png_raw_profile, True, ALL),
    Variant("PNG with long metadata", ".png", png_long_metadata, True, ALL),
    Variant("PNG RGBA", ".png", rgba_on_white("PNG"), True, ALL),
    Variant("PNG palette", ".png", lambda i, o: encode(i.quantize(256), "PNG"), False),
    Variant("PNG 1-bit", ".png", plain("PNG", "1"), True, ONE, black_and_white),
    Variant("PNG gray, 16 bits", ".png", gray_16_bits("PNG", 16), True, ONE, gray),
    Variant("PNG gray, 12 of 16 bits", ".png", gray_16_bits("PNG", 12), True, ONE, gray),
    Variant("PNG color, 16 bits", ".png", png_16_bits(16), True, ALL),
    Variant("PNG color, 12 of 16 bits", ".png", png_16_bits(12), True, ALL),
    Variant("PNG animated", ".apng", apng, True, ALL),
    Variant("WebP", ".webp", pillow("WEBP", quality=90), False, ALL),
    Variant("WebP lossless, RGBA", ".webp", rgba_on_white("WEBP", lossless=True), True, ALL),
    Variant("GIF", ".gif", plain("GIF"), False),
    Variant("BMP", ".bmp", plain("BMP"), True),
    Variant("TIFF", ".tif", pillow("TIFF"), True, ALL),
    Variant("TIFF deflate", ".tiff", pillow("TIFF", compression="tiff_adobe_deflate"), True, ALL),
    Variant("TIFF gray, 14 of 16 bits", ".tif", gray_16_bits("TIFF", 14), True, ONE, gray),
    Variant("TIFF CMYK", ".tif", plain("TIFF", "CMYK"), True),
    Variant("TIFF with a thumbnail first", ".tif", thumbnail_first, True),
    Variant("TIFF with an unmarked thumbnail first", ".tif", unmarked_thumbnail_first, True),
    Variant("TIFF of several pages", ".tif", further_pages, True),
    Variant("AVIF", ".avif", pillow("AVIF", quality=90, speed=9), False, ALL),
    Variant("HEIC", ".heic", pillow("HEIF", quality=90), False, ALL),
    Variant("HEIC gray", ".heif", lambda i, o: encode(gray(i), "HEIF", exif=exif(o), quality=90), False, ALL, gray),
    Variant("JPEG 2000", ".jp2", plain("JPEG2000"), True),
    Variant("JPEG 2000 codestream", ".j2k", plain("JPEG2000", no_jp2=True), True),
    Variant("PPM", ".ppm", plain("PPM"), True),
    Variant("PPM in text", ".ppm", ascii_ppm, True),
    Variant("PBM", ".pbm", plain("PPM", "1"), True, ONE, black_and_white),
    Variant("PGM, 8 bits", ".pgm", pgm(255), True, ONE, gray),
    Variant("PGM, 12 bits", ".pgm", pgm(4095), True, ONE, gray),
    Variant("PGM, 12 of 16 bits", ".pgm", pgm(65535, 12), True, ONE, gray),
    Variant("JPEG XL", ".jxl", pillow("JXL", lossless=True, effort=1), True, ALL),
    Variant("JPEG XL turned by its codestream", ".jxl", jxl_codestream, True, ALL),
    Variant("JPEG XL of a JPEG", ".jxl", jxl_of_jpeg, False, ALL),
    Variant("DNG", ".dng", dng(sensor_first=False), False, ALL),
    Variant("DNG with sensor data first", ".dng", dng(sensor_first=True), False, ALL),
]
"""Formats and variants. A format without an orientation of its own is written upright."""
