"""Sources of images, their names in messages, and the errors of reading them in plain words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from glam.errors import GlamError, ImageError, InaccessibleError, TooLargeError, is_refusal, system_reason
from glam.images.limits import MAX_PIXELS
from glam.images.regular_file import NotAFileError

ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.generic]
"""An image: a path, the content of an image file, a Pillow image, or an array (see `glam.images.read_image`)."""

DETAIL_CHARACTERS = 120
"""Most characters of a decoder's message that are shown; arbitrary, so that a message stays one line."""


def source_name(source: object) -> str:
    """Returns the name of a source for messages: its path, or its kind if it has none.

    Args:
        source: any object; `glam.images.read_image` lists those that are images.
    """
    if isinstance(source, bytes):
        return "uploaded bytes"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "Pillow image")
    if isinstance(source, np.ndarray):
        return "array"
    return str(source) if isinstance(source, (str, os.PathLike)) else f"object of type {type(source).__name__}"


def is_image_source(value: object) -> bool:
    """Returns whether a value is a single image that `glam.images.read_image` accepts, rather than a sequence.

    Args:
        value: any object. An array of shape (n, h, w, c) counts as a sequence of images.
    """
    if isinstance(value, np.ndarray):
        return value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4))
    return isinstance(value, (str, os.PathLike, bytes, Image.Image))


@contextmanager
def image_errors(source: ImageSource) -> Iterator[None]:
    """Converts every error of reading an image inside the block to an `ImageError` with a plain reason.

    Args:
        source: image that the block reads; the error names it.

    Raises:
        ImageError: the block cannot read the image; an `InaccessibleError` if the system refused to read the file.
    """
    try:
        yield
    except GlamError:
        raise
    except Image.DecompressionBombError as error:
        reason = f"more than the limit of {MAX_PIXELS / 1e6:.0f} megapixels"
        raise TooLargeError(source_name(source), reason) from error
    except Exception as error:  # every decoder raises exceptions of its own
        kind = InaccessibleError if is_refusal(error) else ImageError
        raise kind(source_name(source), _reason(source, error)) from error


def _reason(source: ImageSource, error: BaseException) -> str:
    """Returns the reason of an error in plain words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image"
    if isinstance(error, UnidentifiedImageError):
        empty = not source if isinstance(source, bytes) else _is_empty_file(source)
        return "an empty file" if empty else "not an image that can be read"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.errno:
        return system_reason(error)
    if isinstance(error, NotAFileError) or not isinstance(source, (str, os.PathLike, bytes)):
        return str(error)
    return f"damaged or not supported ({_detail(error)})"


def _detail(error: BaseException) -> str:
    """Returns the message of a decoder as one short line; the type of the error if there is none."""
    texts = [text.decode("ascii", "replace") if isinstance(text, bytes) else str(text) for text in error.args]
    line = " ".join("".join(c if c.isprintable() else " " for c in " ".join(texts)).split())
    return shorten(line, DETAIL_CHARACTERS, placeholder=" ...") or type(error).__name__


def _is_empty_file(source: ImageSource) -> bool:
    return isinstance(source, (str, Path)) and Path(source).stat().st_size == 0
