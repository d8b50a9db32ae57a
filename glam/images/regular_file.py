"""Regular files, opened once and without blocking."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from glam.images.limits import MAX_BYTES, check_bytes

NOT_A_FILE = (errno.ENXIO, errno.ENODEV)
"""Errors of opening a socket, or a device without a driver."""


class NotAFileError(OSError):
    """What was opened is a pipe, a socket, or a device."""


def open_regular_file(path: str | Path) -> BinaryIO:
    """Opens a regular file for reading. Anything else, such as a named pipe or a device, could block or never end.

    Args:
        path: path of the file; symbolic links are followed.

    Raises:
        NotAFileError: there is no regular file at the path.
        OSError: the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise NotAFileError("not a regular file") from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path} is a folder")
        if not stat.S_ISREG(mode):
            raise NotAFileError("not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads a regular file.

    Args:
        path: path of the file; symbolic links are followed.
        max_bytes: maximum size of the file in bytes.

    Raises:
        NotAFileError: there is no regular file at the path.
        OSError: the file cannot be read.
        TooLargeError: the file is larger than ``max_bytes``.
    """
    with open_regular_file(path) as file:
        check_bytes(os.fstat(file.fileno()).st_size, max_bytes, str(path))
        return file.read()
