"""Validation of uploaded files: bytes of an image that is safe to decode, or an HTTP error."""

import io
from functools import cache
from typing import BinaryIO, NamedTuple

from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError

from glam.app.service.middleware.errors import upload_too_large
from glam.app.service.settings import ServiceLimits
from glam.errors import ImageError
from glam.images import image_errors, read_image

# By Pillow's names. Pillow reads more, some of it through other programs (EPS starts Ghostscript): not from strangers.
UPLOAD_FORMATS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
}
"""The accepted formats, each with the suffix of its files."""

SAME_AS = {"MPO": "JPEG"}
"""Pillow's name of a JPEG with further pictures after the first, which some cameras write."""

ORIENTATION = 0x0112
"""EXIF tag."""


class ImageHeader(NamedTuple):
    """Header of an image: width and height in pixels as stored, before its EXIF orientation, and its format."""

    width: int
    height: int
    format: str


def upload_bytes(file: BinaryIO, limits: ServiceLimits) -> bytes:
    """The bytes of an upload.

    Args:
        file: open for reading, at its start.
        limits: of the service.

    Raises:
        HTTPException: 413 for too many bytes, 422 for none.
    """
    data = file.read(limits.upload_bytes + 1)
    if len(data) > limits.upload_bytes:
        raise upload_too_large(limits)
    if not data:
        raise HTTPException(422, "The file is empty.")
    return data


def read_header(data: bytes, limits: ServiceLimits) -> ImageHeader:
    """Read the header of an upload, without decoding it.

    Raises:
        HTTPException: 413 for too many pixels, 415 for anything but an image in ``UPLOAD_FORMATS``, 422 for such an
            image whose header is damaged.
    """
    most = f"{limits.upload_pixels / 1e6:g} megapixels, the most this service takes"
    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            width, height = image.size
            format = SAME_AS.get(image.format or "", image.format or "")
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"The image has more than {most}.") from error
    except UnidentifiedImageError as error:
        sentence = "The file is not an image that can be read here; JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF can."
        raise HTTPException(415, sentence) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow's readers raise on a broken header
        raise HTTPException(422, "The image cannot be read: its header is damaged.") from error
    if width * height > limits.upload_pixels:
        raise HTTPException(413, f"The image has {width} by {height} pixels: more than {most}.")
    return ImageHeader(width, height, format)


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright image in the bytes of an upload whose header was read.

    Of a PNG without EXIF before its pixels, Pillow decodes the pixels to look behind them.

    Raises:
        ImageError: the image is damaged.
    """
    with image_errors(data), Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
        turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size


def read_upload(file: BinaryIO, limits: ServiceLimits) -> Image.Image:
    """Read an uploaded image, upright and RGB.

    Args:
        file: open for reading, at its start.
        limits: of the service; the size in pixels is read from the header before anything is decoded.

    Raises:
        HTTPException: see `upload_bytes` and `read_header`; 422 for a damaged image.
    """
    data = upload_bytes(file, limits)
    read_header(data, limits)
    try:
        return read_image(data, max_pixels=limits.upload_pixels)
    except ImageError as error:
        raise HTTPException(422, f"The image cannot be read: {error.reason}.") from error


@cache
def _readable_formats() -> tuple[str, ...]:
    """The upload formats that this build of Pillow reads: some lack AVIF, and naming it would raise."""
    Image.init()
    return tuple(name for name in UPLOAD_FORMATS if name in Image.OPEN)
