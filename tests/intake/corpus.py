"""Small files of every format that is read, in the orientations that each format can carry, made by Pillow and plugins.

python -m tests.intake.corpus FOLDER        writes them, to look at
"""

import io
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from glam.images.formats import INSTALLED, readable_formats

readable_formats()  # registers HEIC, which is written here too
if "JXL" in INSTALLED:
    import_module("pillow_jxl")

ORIENTATION = 0x0112
UPRIGHT = (1,)
ALL = tuple(range(1, 9))

STORED_FROM_UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How upright pixels are stored for each orientation: the inverse of what a reader does."""


@dataclass(frozen=True)
class Variant:
    """A way to store an image.

    Attributes:
        suffix: suffix of the file.
        encode: encodes stored pixels with an orientation.
        lossless: whether the pixels are kept, as far as gray or few colors allow.
        orientations: orientations that the format can carry.
        gray: whether the colors are lost.
    """

    suffix: str
    encode: Callable[[Image.Image, int], bytes]
    lossless: bool = True
    orientations: tuple[int, ...] = UPRIGHT
    gray: bool = False


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data.tobytes()


def saved(format: str, mode: str = "RGB", **options: object) -> Callable[[Image.Image, int], bytes]:
    """An encoder by Pillow that stores the orientation as EXIF data, if it is not 1."""

    def encode(image: Image.Image, orientation: int) -> bytes:
        out = io.BytesIO()
        turned = {} if orientation == 1 else {"exif": exif(orientation)}
        image.convert(mode).save(out, format, **options, **turned)
        return out.getvalue()

    return encode


def tiff(mode: str = "RGB", **options: object) -> Callable[[Image.Image, int], bytes]:
    """An encoder that stores the orientation as a TIFF tag."""

    def encode(image: Image.Image, orientation: int) -> bytes:
        out = io.BytesIO()
        image.convert(mode).save(out, "TIFF", tiffinfo={ORIENTATION: orientation}, **options)
        return out.getvalue()

    return encode


def gray_16(format: str, bits: int) -> Callable[[Image.Image, int], bytes]:
    """An encoder of gray images that use some of 16 bits."""

    def encode(image: Image.Image, orientation: int) -> bytes:
        values = np.asarray(image.convert("L")).astype(np.uint16) << (bits - 8)
        values[0, 0] = (1 << bits) - 1
        out = io.BytesIO()
        Image.fromarray(values).save(out, format)
        return out.getvalue()

    return encode


def floats(image: Image.Image, orientation: int) -> bytes:
    values = np.asarray(image.convert("L")).astype(np.float32) / 255 * 3 - 1
    out = io.BytesIO()
    Image.fromarray(values).save(out, "TIFF", tiffinfo={ORIENTATION: orientation})
    return out.getvalue()


def palette(format: str) -> Callable[[Image.Image, int], bytes]:
    """An encoder of images of 256 colors."""

    def encode(image: Image.Image, orientation: int) -> bytes:
        out = io.BytesIO()
        image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE, kmeans=3).save(out, format)
        return out.getvalue()

    return encode


def transparent(format: str) -> Callable[[Image.Image, int], bytes]:
    def encode(image: Image.Image, orientation: int) -> bytes:
        layered = image.convert("RGBA")
        layered.putalpha(255)
        out = io.BytesIO()
        turned = {} if orientation == 1 else {"exif": exif(orientation)}
        layered.save(out, format, lossless=True, **turned)
        return out.getvalue()

    return encode


def motion_photo(image: Image.Image, orientation: int) -> bytes:
    """A JPEG with a film after its end, as phones write it."""
    return saved("JPEG", quality=95)(image, orientation) + b"\0\0\0\x18ftypmp42" + b"\0" * 5000


def mpo(image: Image.Image, orientation: int) -> bytes:
    out = io.BytesIO()
    turned = {} if orientation == 1 else {"exif": exif(orientation)}
    image.save(out, "MPO", save_all=True, append_images=[image.resize((64, 48))], quality=95, **turned)
    return out.getvalue()


def pages(image: Image.Image, orientation: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "TIFF", save_all=True, append_images=[Image.new("RGB", image.size, "red")])
    return out.getvalue()


def animation(format: str) -> Callable[[Image.Image, int], bytes]:
    def encode(image: Image.Image, orientation: int) -> bytes:
        out = io.BytesIO()
        further = [Image.new("RGB", image.size, "red")]
        image.save(out, format, save_all=True, append_images=further, lossless=True, duration=100)
        return out.getvalue()

    return encode


def long_metadata(image: Image.Image, orientation: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, exif=exif(orientation), comment=b"x" * 60_000)
    content = out.getvalue()
    segment = b"\xff\xed" + struct.pack(">H", 65_000) + b"Photoshop 3.0\0" + b"y" * (65_000 - 2 - 14)
    return content[:2] + 40 * segment + content[2:]


def late_exif(image: Image.Image, orientation: int) -> bytes:
    """A PNG with EXIF data after its pixels."""
    import zlib

    out = io.BytesIO()
    image.save(out, "PNG")
    data = b"eXIf" + exif(orientation).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    content = out.getvalue()
    return content[:-12] + chunk + content[-12:]


def dng(image: Image.Image, orientation: int) -> bytes:
    """A DNG that holds sensor data of 32 x 32 and, as its preview, a JPEG."""
    preview = io.BytesIO()
    image.save(preview, "JPEG", quality=95)
    jpeg = preview.getvalue()
    sensor = np.arange(32 * 32, dtype="<u2").tobytes()
    first = [
        (254, 4, 1, 1), (256, 4, 1, image.width), (257, 4, 1, image.height), (258, 3, 3, (8, 8, 8)), (259, 3, 1, 7),
        (262, 3, 1, 6), (271, 2, 5, b"Test\0"), (272, 2, 5, b"Test\0"), (273, 4, 1, "jpeg"), (274, 3, 1, orientation),
        (277, 3, 1, 3), (278, 4, 1, image.height), (279, 4, 1, len(jpeg)), (330, 4, 1, "sub"),
        (50706, 1, 4, b"\x01\x04\0\0"), (50708, 2, 5, b"Test\0"),
    ]  # fmt: skip
    second = [
        (254, 4, 1, 0), (256, 4, 1, 32), (257, 4, 1, 32), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 32803),
        (273, 4, 1, "sensor"), (277, 3, 1, 1), (278, 4, 1, 32), (279, 4, 1, len(sensor)), (33421, 3, 2, (2, 2)),
        (33422, 1, 4, b"\0\x01\x01\x02"),
    ]  # fmt: skip
    sizes = [2 + 12 * len(entries) + 4 for entries in (first, second)]
    places = {"sub": 8 + sizes[0]}
    extra_at = places["sub"] + sizes[1]
    places["jpeg"] = extra_at + 200
    places["sensor"] = places["jpeg"] + len(jpeg)
    extra = b""
    blocks = []
    for entries in (first, second):
        block = struct.pack("<H", len(entries))
        for tag, kind, count, value in entries:
            if isinstance(value, str):
                value = places[value]
            if isinstance(value, tuple):
                value = struct.pack(f"<{len(value)}H", *value)
            if isinstance(value, bytes) and len(value) > 4:
                field = struct.pack("<I", extra_at + len(extra))
                extra += value + b"\0" * (len(value) % 2)
            elif isinstance(value, bytes):
                field = value.ljust(4, b"\0")
            else:
                field = struct.pack("<I", value) if kind == 4 else struct.pack("<HH", value, 0)
            block += struct.pack("<HHI", tag, kind, count) + field
        blocks.append(block + struct.pack("<I", 0))
    return b"II*\0" + struct.pack("<I", 8) + blocks[0] + blocks[1] + extra.ljust(200, b"\0") + jpeg + sensor


VARIANTS = {
    "JPEG": Variant(".jpg", saved("JPEG", quality=95), False, ALL),
    "progressive JPEG": Variant(".jpg", saved("JPEG", quality=95, progressive=True), False, ALL),
    "CMYK JPEG": Variant(".jpg", saved("JPEG", "CMYK", quality=95), False, ALL),
    "gray JPEG": Variant(".jpg", saved("JPEG", "L", quality=95), False, ALL, gray=True),
    "motion photo": Variant(".jpg", motion_photo, False, ALL),
    "JPEG with 2.6 MB of metadata": Variant(".jpg", long_metadata, False, ALL),
    "MPO": Variant(".jpg", mpo, False, ALL),
    "PNG": Variant(".png", saved("PNG"), True, ALL),
    "PNG with EXIF data at its end": Variant(".png", late_exif, True, ALL),
    "transparent PNG": Variant(".png", transparent("PNG"), True, ALL),
    "palette PNG": Variant(".png", palette("PNG"), False),
    "16-bit gray PNG": Variant(".png", gray_16("PNG", 16), True, gray=True),
    "12-bit gray PNG": Variant(".png", gray_16("PNG", 12), True, gray=True),
    "APNG": Variant(".png", animation("PNG"), True),
    "WebP": Variant(".webp", saved("WEBP", quality=95), False, ALL),
    "lossless WebP": Variant(".webp", saved("WEBP", lossless=True), True, ALL),
    "animated WebP": Variant(".webp", animation("WEBP"), True),
    "GIF": Variant(".gif", palette("GIF"), False),
    "BMP": Variant(".bmp", saved("BMP")),
    "TIFF": Variant(".tif", tiff(), True, ALL),
    "LZW TIFF": Variant(".tif", tiff(compression="tiff_lzw"), True, ALL),
    "JPEG in TIFF": Variant(".tiff", tiff(compression="jpeg", quality=95), False, ALL),
    "CMYK TIFF": Variant(".tif", tiff("CMYK"), False, ALL),
    "10-bit gray TIFF": Variant(".tif", gray_16("TIFF", 10), True, gray=True),
    "14-bit gray TIFF": Variant(".tif", gray_16("TIFF", 14), True, gray=True),
    "floating-point TIFF": Variant(".tif", floats, True, ALL, gray=True),
    "TIFF of several pages": Variant(".tif", pages),
    "PPM": Variant(".ppm", saved("PPM")),
    "PGM": Variant(".pgm", saved("PPM", "L"), gray=True),
    "JPEG 2000": Variant(".jp2", saved("JPEG2000")),
    "lossy JPEG 2000": Variant(".jp2", saved("JPEG2000", quality_mode="rates", quality_layers=[10]), False),
    "HEIC": Variant(".heic", saved("HEIF", quality=90), False, ALL),
    "lossless HEIC": Variant(".heif", saved("HEIF", quality=-1, chroma="444"), True, ALL),
    "AVIF": Variant(".avif", saved("AVIF", quality=90), False, ALL),
    "JPEG XL": Variant(".jxl", saved("JXL", quality=95), False, ALL),
    "lossless JPEG XL": Variant(".jxl", saved("JXL", lossless=True), True, ALL),
    "DNG": Variant(".dng", dng, False, (1, 3, 6, 8)),
}  # fmt: skip
"""Every format that is read, by name."""


def missing_decoder(variant: Variant) -> str:
    """Why a variant cannot be made or read here; "" if it can."""
    needed = {".jxl": "JXL", ".dng": "RAW"}.get(variant.suffix, "")
    if needed and needed not in INSTALLED:
        return f"the decoder of {needed} is not installed"
    if variant.suffix == ".avif" and "AVIF" not in readable_formats():
        return "this build of Pillow has no AVIF"
    return ""


def corpus(image: Image.Image) -> Iterator[tuple[str, int, bytes, Variant]]:
    """Name, orientation, content, and variant of each file that shows an upright image."""
    for name, variant in VARIANTS.items():
        if missing_decoder(variant):
            continue
        for orientation in variant.orientations:
            turn = STORED_FROM_UPRIGHT[orientation]
            stored = image if turn is None else image.transpose(turn)
            yield name, orientation, variant.encode(stored, orientation), variant


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    gradient = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    for name, orientation, content, variant in corpus(gradient):
        (folder / f"{name} {orientation}{variant.suffix}").write_bytes(content)
