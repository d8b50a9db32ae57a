"""Validation of uploaded files: the bytes of an image that is safe to decode, or an HTTP error."""

from typing import BinaryIO, NamedTuple

from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError

from glam.app.service.decode_cost import cost_of_opened
from glam.app.service.middleware.errors import upload_too_large
from glam.app.service.settings import ServiceLimits
from glam.errors import ImageError, MissingDecoderError, TooLargeError
from glam.images import SAME_AS, image_errors, list_formats, open_image, read_image


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
        HTTPException: 413 for too many pixels, 415 for a file in no format of `glam.images`, 422 for a damaged header.
    """
    image = _open(data, limits)
    width, height = image.size
    return ImageHeader(width, height, SAME_AS.get(image.format or "", image.format or ""))


def _open(data: bytes, limits: ServiceLimits) -> Image.Image:
    """Open an upload without decoding the pixels; see `read_header`."""
    advice = f"Send an image of at most {limits.upload_pixels / 1e6:g} megapixels."
    try:
        with image_errors(data):
            return open_image(data, limits.upload_pixels)
    except TooLargeError as error:
        raise HTTPException(413, f"The image is too large: {error.reason}. {advice}") from error
    except MissingDecoderError as error:
        raise HTTPException(415, f"The service does not read this format. Send {list_formats()}.") from error
    except ImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise HTTPException(
                415, f"The file is not an image in a supported format. Send {list_formats()}."
            ) from error
        raise HTTPException(422, "The image cannot be read: its header is damaged. Send another file.") from error


def upload_cost(file: BinaryIO, limits: ServiceLimits) -> int:
    """Estimated peak memory of `read_upload` in bytes, after its checks.

    Args:
        file: binary file, open for reading; its position does not matter.
        limits: limits of the service.

    Raises:
        HTTPException: see `upload_bytes` and `read_header`.
    """
    file.seek(0)
    image = _open(upload_bytes(file, limits), limits)
    file.seek(0)
    return cost_of_opened(image)


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
