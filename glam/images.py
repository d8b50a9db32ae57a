"""Image reading: any source and any mode that Pillow supports, converted to upright 8-bit RGB.

Only the formats of `FORMATS` are read, and only from regular files. Any exception of a decoder becomes an `ImageError`.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from glam.errors import GlamError, ImageError, system_reason

ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.generic]
"""An image: a path, the content of an image file, a Pillow image, or an array (see `read_image`)."""

Box: TypeAlias = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright image; x to the right and y down from its top left corner."""

MAX_PIXELS = 178_000_000
"""Maximum width times height. Larger images are refused before they are decoded, because a small file can expand to any
size. The value is where Pillow raises an error itself."""

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2",),
    "PPM": (".ppm", ".pgm"),
}
"""Formats that are read, by Pillow's names, and their suffixes in lower case. Pillow reads more, some with other
programs: a PostScript file of any name starts Ghostscript."""

SAME_AS = {"MPO": "JPEG"}
"""MPO is Pillow's name for a JPEG with further pictures after the first, which some cameras write."""

IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Suffixes, in lower case, of the files that a folder scan treats as images."""

ORIENTATION = 0x0112
"""EXIF and TIFF tag of the orientation."""

_STORED_WIDTH, _STORED_HEIGHT = 256, 257
"""TIFF tags of the size before the orientation is applied."""


def read_image(source: ImageSource, *, box: Box | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads an image, turns it upright by its EXIF orientation, and converts it to RGB.

    Transparent images are placed on white, 16-bit images are scaled to 8 bits, and animations give their first frame.

    Args:
        source: path, content of an image file, Pillow image, or array, (h, w), (h, w, 1), (h, w, 3), or (h, w, 4), of
            uint8 in [0, 255], uint16 in [0, 65535], or floating point in [0, 1].
        box: part to return: x1, y1, x2, y2 in pixels of the upright image; None for the full image.
        max_pixels: maximum width times height.

    Returns:
        Pillow image in RGB, decoded.

    Raises:
        ImageError: the source cannot be read or is too large, or the box is empty or outside the image.
    """
    with image_errors(source):
        image = open_image(source, max_pixels)
        image = to_rgb(ImageOps.exif_transpose(image))
    return image if box is None else crop_image(image, box, source_name(source))


@contextmanager
def image_errors(source: ImageSource) -> Iterator[None]:
    """Converts every error of reading an image inside the block to an `ImageError` with a plain reason.

    Args:
        source: image that the block reads; the error names it.

    Raises:
        ImageError: the block cannot read the image.
    """
    try:
        yield
    except GlamError:
        raise
    except Exception as error:  # every decoder raises exceptions of its own
        raise ImageError(source_name(source), _reason(source, error)) from error


def open_image(source: ImageSource | BinaryIO, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Image.Image:
    """Opens an image and reads only the header of its file. Call it inside `image_errors`.

    Args:
        source: image to open, see `read_image`, or a file open for reading.
        max_pixels: maximum width times height.
        name: name of the image for error messages; None to derive it from the source.

    Returns:
        Pillow image, not decoded yet.

    Raises:
        ImageError: the image has no pixels or more than ``max_pixels``, or the source has an unsupported type.
        OSError: the image cannot be read. Pillow raises other exceptions too; `image_errors` converts them all.
    """
    image = _open(source, name)
    if not (image.width and image.height):
        raise ImageError(name or source_name(source), f"{image.width} x {image.height} pixels, so the image is empty")
    if image.width * image.height > max_pixels:
        millions = image.width * image.height / 1e6
        reason = f"{millions:.0f} megapixels, more than the limit of {max_pixels / 1e6:.0f}"
        raise ImageError(name or source_name(source), reason)
    return image


def open_regular_file(path: str | Path) -> BinaryIO:
    """Opens a regular file for reading. Anything else, such as a named pipe or a device, could block or never end.

    Args:
        path: path of the file; symbolic links are followed.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise OSError("not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: str | Path) -> bytes:
    """Reads a regular file.

    Args:
        path: path of the file; symbolic links are followed.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular_file(path) as file:
        return file.read()


def read_upright_size(source: Path | bytes) -> tuple[int, int]:
    """Reads the width and height of an upright image in pixels from the header of its file.

    If a PNG has no EXIF data before its pixels, Pillow decodes the pixels to look for EXIF data after them.

    Args:
        source: path of the file, or its content.

    Raises:
        ImageError: the header cannot be read, or the image has no pixels or more than `MAX_PIXELS`.
    """
    with image_errors(source), io.BytesIO(source) if isinstance(source, bytes) else open_regular_file(source) as file:
        return upright_size(open_image(file, name=source_name(source)))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns the width and height in pixels that an opened image has after it is turned upright.

    Args:
        image: image opened by Pillow, decoded or not.
    """
    tags = getattr(image, "tag_v2", None)  # a TIFF, whose Pillow size is upright in some versions, stored in others
    if tags is not None and _STORED_WIDTH in tags and ORIENTATION in tags:
        width, height = tags[_STORED_WIDTH], tags[_STORED_HEIGHT]
        return (height, width) if is_turned(image) else (width, height)
    return image.size[::-1] if is_turned(image) else image.size


def is_turned(image: Image.Image) -> bool:
    """Returns whether turning an opened image upright will swap its sides."""
    return image.getexif().get(ORIENTATION) in (5, 6, 7, 8)


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that this build of Pillow reads. Some lack AVIF, and Pillow refuses unknown names."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(source: object, name: str | None) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return Image.fromarray(_to_uint8(source))
    if isinstance(source, bytes):
        return Image.open(io.BytesIO(source), formats=readable_formats())
    if isinstance(source, (str, os.PathLike)):
        return Image.open(io.BytesIO(read_regular_file(Path(source))), formats=readable_formats())
    if hasattr(source, "read"):
        return Image.open(cast(Any, source), formats=readable_formats())
    raise ImageError(
        name or source_name(source), "not an image; pass a path, the content of a file, a Pillow image, or an array"
    )


def _to_uint8(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Converts any supported array to uint8, (h, w), (h, w, 3), or (h, w, 4)."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"an array of shape {array.shape} is not an image; pass (h, w), (h, w, 3), or (h, w, 4)")
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.uint16:
        return (array.astype(np.uint16, copy=False) >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        return (np.clip(np.nan_to_num(array.astype(np.float32)), 0, 1) * 255).round().astype(np.uint8)
    raise ValueError(f"an array of {array.dtype} is not an image; pass uint8, uint16, or floating point")


def to_rgb(image: Image.Image) -> Image.Image:
    """Decodes an image and converts it to RGB, from any Pillow mode; transparent images are placed on white.

    Args:
        image: image opened by Pillow, upright or not.
    """
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return _stretch(image).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _stretch(image: Image.Image) -> Image.Image:
    """Scales 32-bit integers or floats to 8 bits: from [0, 65535] for integers that fit, else from their range."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 65535 and image.mode == "I":
        low, high = 0.0, 65535.0
    return Image.fromarray(((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8))


def crop_image(image: Image.Image, box: Box, name: str) -> Image.Image:
    """Crops an image to a box, clipped to the image and rounded outward to integer coordinates.

    Args:
        image: upright image.
        box: x1, y1, x2, y2 in pixels of the image.
        name: name of the image for error messages.

    Raises:
        ImageError: the box is empty or outside the image.
    """
    return image.crop(pixel_box(box, image.width, image.height, name))


def pixel_box(box: Box, width: int, height: int, name: str) -> tuple[int, int, int, int]:
    """Clips a box to an image and rounds it outward to integer coordinates.

    Args:
        box: x1, y1, x2, y2 in pixels of the upright image.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        name: name of the image for error messages.

    Returns:
        left, top, right, bottom in pixels; right and bottom are exclusive.

    Raises:
        ImageError: the box is empty or outside the image.
    """
    x1, y1, x2, y2 = box
    if not all(np.isfinite(box)) or x2 <= x1 or y2 <= y1:
        raise ImageError(name, f"the box {box} is empty; choose x1 < x2 and y1 < y2")
    left, top = max(int(np.floor(x1)), 0), max(int(np.floor(y1)), 0)
    right, bottom = min(int(np.ceil(x2)), width), min(int(np.ceil(y2)), height)
    if right <= left or bottom <= top:
        raise ImageError(name, f"the box {box} is outside the image, which has {width} x {height} pixels")
    return left, top, right, bottom


def source_name(source: object) -> str:
    """Returns the name of a source for messages: its path, or its kind if it has none.

    Args:
        source: any object; `read_image` lists those that are images.
    """
    if isinstance(source, bytes):
        return "uploaded bytes"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "Pillow image")
    if isinstance(source, np.ndarray):
        return "array"
    return str(source) if isinstance(source, (str, os.PathLike)) else f"object of type {type(source).__name__}"


def is_image_source(value: object) -> bool:
    """Returns whether a value is a single image that `read_image` accepts, rather than a sequence of images.

    Args:
        value: any object. An array of shape (n, h, w, c) counts as a sequence of images.
    """
    if isinstance(value, np.ndarray):
        return value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))
    return isinstance(value, (str, os.PathLike, bytes, Image.Image))


def _reason(source: ImageSource, error: BaseException) -> str:
    """Returns the reason of an error in plain words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, UnidentifiedImageError):
        empty = not source if isinstance(source, bytes) else _is_empty_file(source)
        return "an empty file" if empty else "not an image that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than the limit of {MAX_PIXELS / 1e6:.0f} megapixels"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno:
        return system_reason(error)
    return str(error) or type(error).__name__


def _is_empty_file(source: ImageSource) -> bool:
    return isinstance(source, (str, Path)) and Path(source).stat().st_size == 0
