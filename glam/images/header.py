"""Headers of images: format and size, with the limits that are checked before anything is decoded."""

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from glam.errors import ImageError, MissingDecoderError
from glam.images import jpeg_xl, png, raw
from glam.images.formats import INSTALL, INSTALLED, readable_formats
from glam.images.limits import MAX_BYTES, MAX_PIXELS, check_bytes, check_pixels
from glam.images.orientation import upright_size
from glam.images.regular_file import open_regular_file, read_regular_file
from glam.images.rgb import SCALED, array_to_image
from glam.images.segment_limit import CountedReads
from glam.images.source import ImageSource, image_errors, source_name
from glam.images.tiff import seek_full_page

_HEAD = 16
"""Bytes at the start of a file that tell PNG and JPEG XL."""


def open_image(
    source: ImageSource | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
) -> Image.Image:
    """Opens an image and reads only the header of its file. Call it inside `glam.images.image_errors`.

    Args:
        source: image to open, see `glam.images.read_image`, or a file open for reading.
        max_pixels: maximum width times height.
        name: name of the image for error messages; None to derive it from the source.
        max_bytes: maximum size of the file in bytes.

    Returns:
        Pillow image, not decoded yet. Of a RAW photo, the preview.

    Raises:
        TooLargeError: the image has more than ``max_pixels``, or the file more than ``max_bytes``.
        MissingDecoderError: the format needs optional dependencies that are not installed.
        ImageError: the image has no pixels, or the source has an unsupported type.
        OSError: the image cannot be read. Pillow raises other exceptions too; `image_errors` converts them all.
    """
    name = name or source_name(source)
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, np.ndarray):
        image = array_to_image(source)
    else:
        image = _open_file(_as_file(source, name, max_bytes), name)
    check_pixels(image.size, max_pixels, name)
    return image


def read_upright_size(source: Path | bytes) -> tuple[int, int]:
    """Reads the width and height of an upright image in pixels from the header of its file.

    Args:
        source: path of the file, or its content.

    Raises:
        ImageError: the header cannot be read, or the image has no pixels or more than `MAX_PIXELS`.
    """
    with image_errors(source), io.BytesIO(source) if isinstance(source, bytes) else open_regular_file(source) as file:
        return upright_size(open_image(file, name=source_name(source)))


def _as_file(source: object, name: str, max_bytes: int) -> BinaryIO:
    """The content of a source as a file that can be read from the start."""
    if isinstance(source, bytes):
        check_bytes(len(source), max_bytes, name)
        return io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        return io.BytesIO(read_regular_file(Path(source), max_bytes))
    if hasattr(source, "read"):
        file = cast(BinaryIO, source)
        check_bytes(file.seek(0, os.SEEK_END), max_bytes, name)
        file.seek(0)
        return file
    raise ImageError(name, "not an image; pass a path, the content of a file, a Pillow image, or an array")


def _open_file(file: BinaryIO, name: str) -> Image.Image:
    head = file.read(_HEAD)
    file.seek(0)
    if raw.is_raw(file):
        _check_installed("RAW", "a RAW photo", name)
        return raw.open_preview(file)
    if jpeg_xl.is_jpeg_xl(head):
        _check_installed("JXL", "a JPEG XL image", name)
        return jpeg_xl.JpegXLFile(cast(Any, file))
    if head.startswith(png.SIGNATURE):
        return _open_png(file)
    limited = CountedReads(file)
    image = Image.open(cast(Any, limited), formats=readable_formats())
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        seek_full_page(image)
    if image.format == "PPM":
        image.info[SCALED] = _is_scaled(image)
    limited.end_header()
    return image


def _open_png(file: BinaryIO) -> Image.Image:
    limited = CountedReads(file)
    stripped, exif = png.strip_metadata(cast(BinaryIO, limited))
    limited.end_header()  # the number of its chunks is known to be small
    stripped.seek(0)
    image = Image.open(cast(Any, stripped), formats=("PNG",))
    image.info["exif"] = exif  # without this entry, Pillow decodes the pixels to look for EXIF data
    return image


def _is_scaled(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow scales the values of a PPM or PGM, because its header says what the largest one is."""
    args = image.tile[0].args
    return isinstance(args, tuple) and args[-1] != 65535


def _check_installed(format: str, what: str, name: str) -> None:
    if format not in INSTALLED:
        raise MissingDecoderError(name, f"{what}; install the extra for this format: {INSTALL}")
