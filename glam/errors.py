"""Errors that users can cause or fix. The message says what is wrong and what to do."""

import errno


class GlamError(Exception):
    """An expected error, such as a wrong path or option. The base class of the errors of this package.

    ``str(error)`` says what is wrong and what to do; the command line prints it and exits with status 1.

    Examples:
        >>> try:
        ...     glam.load("glam-lite9")
        ... except glam.GlamError as error:
        ...     print(error)
        There is no model named 'glam-lite9'. Choose glam-lite0, timm:NAME, or the path of a .safetensors file.
    """


class ImageError(GlamError):
    """An image cannot be read. ``str(error)`` is ``SOURCE: REASON``.

    Examples:
        >>> try:
        ...     model.describe("missing.jpg")
        ... except glam.ImageError as error:
        ...     print(error.source, "-", error.reason)
        missing.jpg - no such file

    Args:
        source: path of the file, or its kind if there is no path, such as ``uploaded bytes``.
        reason: reason in a few words.

    Attributes:
        source: path of the file, or its kind.
        reason: reason in a few words.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class TooLargeError(ImageError):
    """An image has more pixels or bytes than the limit."""


class InaccessibleError(ImageError):
    """The operating system refused to read an image file, which may be sound."""


class MissingDecoderError(ImageError):
    """An image has a format whose decoder is an optional dependency that is not installed."""


GONE = (errno.ENOENT, errno.ENOTDIR)
"""Numbers of errors of the operating system that say that there is nothing at a path."""


def is_refusal(error: BaseException) -> bool:
    """Whether the operating system refused to open a file, which may be sound, as for a missing permission.

    False if there is nothing at the path, and for errors without a number, which are those of decoders and of
    `glam.images.open_regular_file` for what is not a file.
    """
    return isinstance(error, OSError) and error.errno not in (None, *GONE)


def system_reason(error: OSError) -> str:
    """The reason of an error of the operating system, as in ``permission denied``."""
    return (error.strerror or str(error)).lower()
