"""Small valid files of every format that the product reads, from which `tests.intake.fuzz_mutators` makes mutants."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from glam.images import ORIENTATION, SAME_AS
from glam.images.formats import INSTALLED, readable_formats
from tests.intake.formats_files import dng

WIDTH, HEIGHT = 53, 37
"""Size of the images in pixels: two primes, so that their bytes are found in the headers of the files."""

MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
"""Pillow modes that are tried for each format; a format lacks those that it cannot store."""

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}),
    "PNG": ({"compress_level": 0}, {"save_all": True, "append_images": 2}),
    "WEBP": ({"lossless": True}, {"save_all": True, "append_images": 2}),
    "GIF": ({"save_all": True, "append_images": 2}, {"interlace": 0}),
    "TIFF": (
        {"compression": "tiff_lzw"},
        {"compression": "tiff_adobe_deflate"},
        {"compression": "packbits"},
        {"compression": "jpeg"},
        {"save_all": True, "append_images": 2},
        {"big_tiff": True},
    ),
    "AVIF": ({"save_all": True, "append_images": 2}, {"subsampling": "4:4:4", "quality": 90}),
    "JPEG2000": ({"irreversible": True}, {"tile_size": (16, 16)}, {"no_jp2": True}),
    "MPO": ({"save_all": True, "append_images": 2},),
}
"""Options of Pillow's writers that lead to other code of the readers. ``append_images`` is a number of pictures."""


def seed_files() -> dict[str, bytes]:
    """Contents of the seeds by name, such as ``TIFF-RGB-1``. Distinct only: several modes can give one file."""
    names: dict[bytes, str] = {}
    for name, content in _files():
        names.setdefault(content, name)
    return {name: content for content, name in names.items()}


def draw_seed(mode: str, number: int = 0) -> Image.Image:
    """Draws the image of the seeds.

    Args:
        mode: mode of Pillow.
        number: number of the picture in an animation.
    """
    noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    image = Image.radial_gradient("L").resize((WIDTH, HEIGHT)).convert("RGBA")
    image.paste(Image.fromarray(noise).crop((0, 0, 20, 12)), (4, 5))
    ImageDraw.Draw(image).rectangle((30, 10, 45, 30), fill=(200, 40, 10, 90))
    if mode in ("I;16", "I", "F"):
        gray = np.asarray(image.convert("L"))
        return Image.fromarray(gray.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    return image.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "LAB") else image.convert(mode)


def _files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each file that the writers make."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    aliases = (alias for alias, name in SAME_AS.items() if name in readable_formats())
    for name in (*readable_formats(), *(["JXL"] if "JXL" in INSTALLED else []), *aliases):
        for mode in MODES:
            variants = ({}, {"exif": exif}, *OPTIONS.get(name, ())) if mode in ("RGB", "L") else ({},)
            for number, options in enumerate(variants):
                content = _save(name, mode, options)
                if content is not None:
                    yield f"{name}-{mode.replace(';', '')}-{number}", content
    if "RAW" in INSTALLED:
        for number, sensor_first in enumerate((False, True)):
            yield f"RAW-RGB-{number}", dng(sensor_first)(draw_seed("RGB"), 6)


def _save(name: str, mode: str, options: dict[str, Any]) -> bytes | None:
    """The content of a file; None if the format cannot store the mode, or Pillow only reads it."""
    if name not in Image.SAVE:
        return None
    if "append_images" in options:
        options = {**options, "append_images": [draw_seed(mode, i + 1) for i in range(options["append_images"])]}
    file = io.BytesIO()
    try:
        draw_seed(mode).save(file, name, **options)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError):
        return None
    return file.getvalue()
