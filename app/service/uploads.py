"""Validation of uploaded files: the bytes of an image that is safe to decode, or an HTTP error."""

import io
from functools import cache
from typing import BinaryIO, NamedTuple

from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError

from glam.app.service.middleware.errors import upload_too_large
from glam.app.service.settings import ServiceLimits
from glam.errors import ImageError
from glam.images import image_errors, read_image

# By Pillow's names. Pillow reads more formats, some with other programs (EPS starts Ghostscript), which is not safe for
# uploads.
UPLOAD_FORMATS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
}
"""Accepted formats, and the file suffix of each."""

SAME_AS = {"MPO": "JPEG"}
"""MPO is Pillow's name for a JPEG with further pictures after the first, which some cameras write."""

ORIENTATION = 0x0112
"""EXIF tag."""


class ImageHeader(NamedTuple):
    """Header of an image: width and height in pixels before the EXIF orientation is applied, and format."""

    width: int
    height: int
    format: str


def upload_bytes(file: BinaryIO, limits: ServiceLimits) -> bytes:
    """Read the bytes of an upload.

    Args:
        file: binary file, open for reading at its start.
        limits: limits of the service.

    Raises:
        HTTPException: 413 for too many bytes, 422 for an empty file.
    """
    data = file.read(limits.upload_bytes + 1)
    if len(data) > limits.upload_bytes:
        raise upload_too_large(limits)
    if not data:
        raise HTTPException(422, "The file is empty. Send another file.")
    return data


def read_header(data: bytes, limits: ServiceLimits) -> ImageHeader:
    """Read the header of an upload without decoding the pixels.

    Raises:
        HTTPException: 413 for too many pixels, 415 for a file that is not an image in ``UPLOAD_FORMATS``, 422 for a
            damaged header.
    """
    advice = f"Send an image of at most {limits.upload_pixels / 1e6:g} megapixels."
    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            width, height = image.size
            format = SAME_AS.get(image.format or "", image.format or "")
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"The image is too large. {advice}") from error
    except UnidentifiedImageError as error:
        sentence = "The file is not an image in a supported format. Send JPEG, PNG, WebP, GIF, BMP, TIFF, or AVIF."
        raise HTTPException(415, sentence) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's errors for a damaged header
        raise HTTPException(422, "The image cannot be read: its header is damaged. Send another file.") from error
    if width * height > limits.upload_pixels:
        raise HTTPException(413, f"The image is too large: {width} by {height} pixels. {advice}")
    return ImageHeader(width, height, format)


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright image in an upload that `read_header` has accepted.

    If a PNG has no EXIF data before its pixels, Pillow decodes the pixels to look for EXIF data after them.

    Raises:
        ImageError: the image is damaged.
    """
    with image_errors(data), Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
        turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size


def read_upload(file: BinaryIO, limits: ServiceLimits) -> Image.Image:
    """Decode an uploaded image, upright and RGB.

    Args:
        file: binary file, open for reading at its start.
        limits: limits of the service, checked before the pixels are decoded.

    Raises:
        HTTPException: see `upload_bytes` and `read_header`; 422 for a damaged image.
    """
    data = upload_bytes(file, limits)
    read_header(data, limits)
    try:
        return read_image(data, max_pixels=limits.upload_pixels)
    except ImageError as error:
        raise HTTPException(422, f"The image cannot be read: {error.reason}. Send another file.") from error


@cache
def _readable_formats() -> tuple[str, ...]:
    """The upload formats that this build of Pillow reads. Some builds lack AVIF; naming it would raise an error."""
    Image.init()
    return tuple(name for name in UPLOAD_FORMATS if name in Image.OPEN)
