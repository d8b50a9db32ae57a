"""Small valid files of every format that the product reads, from which `tests.intake.fuzz_mutators` makes mutants.

They are those of `tests.intake.corpus`, and files of other modes and with options that lead to other code.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from glam.images.formats import EXTRA_FORMATS, FORMATS, INSTALLED, readable_formats
from tests.intake.corpus import corpus

WIDTH, HEIGHT = 53, 37
"""Size of the images in pixels: two primes, so that their bytes are found in the headers of the files."""

ORIENTATIONS = (1, 6)
"""Orientations of the seeds: upright, and turned."""

MODES = ("L", "RGBA", "LA", "P", "1", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
"""Pillow modes that are tried for each format; a format lacks those that it cannot store."""

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({"subsampling": 0, "restart_marker_rows": 1},),
    "PNG": ({"compress_level": 0},),
    "GIF": ({"interlace": 0},),
    "TIFF": ({"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}, {"big_tiff": True}),
    "AVIF": ({"subsampling": "4:4:4"},),
    "JPEG2000": ({"tile_size": (16, 16)}, {"no_jp2": True}),
}
"""Options of Pillow's writers that the corpus does not use."""

LARGEST = 100_000
"""Bytes of the largest seed; mutants of larger files would mostly be damaged where nothing looks."""


def seed_files() -> dict[str, bytes]:
    """Contents of the seeds by name, such as ``TIFF: LZW TIFF 6``. Distinct only: several modes can give one file."""
    names: dict[bytes, str] = {}
    for name, content in (*_corpus_files(), *_files_of_modes()):
        if len(content) <= LARGEST:
            names.setdefault(content, name)
    return {name: content for content, name in names.items()}


def format_of(name: str) -> str:
    """The format of a seed, by Pillow's name, from the name of the seed."""
    return name.partition(":")[0]


def installed_formats() -> set[str]:
    """The formats that are read here."""
    return {*readable_formats(), *INSTALLED}


def _corpus_files() -> Iterator[tuple[str, bytes]]:
    suffixes = {**FORMATS, **{name: suffixes for name, (_, suffixes) in EXTRA_FORMATS.items()}}
    format_by_suffix = {suffix: name for name, listed in suffixes.items() for suffix in listed}
    for name, orientation, content, variant in corpus(_draw("RGB")):
        if orientation in ORIENTATIONS:
            yield f"{format_by_suffix[variant.suffix]}: {name} {orientation}", content


def _files_of_modes() -> Iterator[tuple[str, bytes]]:
    for name in readable_formats():
        for mode, options in (
            *((mode, {}) for mode in MODES),
            *(("RGB", options) for options in OPTIONS.get(name, ())),
        ):
            content = _save(name, mode, options)
            if content is not None:
                yield f"{name}: {mode} {' '.join(options)}".rstrip(), content


def _save(name: str, mode: str, options: dict[str, Any]) -> bytes | None:
    """The content of a file; None if the format cannot store the mode, or Pillow cannot both write and read it.

    Pillow before 13 does not read the uncompressed YCbCr TIFF files that it writes.
    """
    if name not in Image.SAVE:
        return None
    file = io.BytesIO()
    try:
        _draw(mode).save(file, name, **options)
        Image.open(file).load()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError):
        return None
    return file.getvalue()


def _draw(mode: str) -> Image.Image:
    """An image of smooth and of random parts in a mode of Pillow."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 4), dtype=np.uint8)
    image = Image.radial_gradient("L").resize((WIDTH, HEIGHT)).convert("RGBA")
    image.paste(Image.fromarray(noise), (4, 5))
    ImageDraw.Draw(image).rectangle((30, 10, 45, 30), fill=(200, 40, 10, 90))
    if mode in ("I;16", "I", "F"):
        gray = np.asarray(image.convert("L"))
        return Image.fromarray(gray.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    return image.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "LAB") else image.convert(mode)
