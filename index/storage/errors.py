"""Errors of the file system and of SQLite, as messages that say what to do.

Index.open, open_writer --storage_errors--> GlamError
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glam.errors import GlamError
from glam.index.storage.schema import catalog_error

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the operating system that mean that there is no room for more data."""


@contextmanager
def storage_errors(index: Path) -> Iterator[None]:
    """Turns errors of the file system and of SQLite inside the block into messages that say what to do.

    Args:
        index: folder of the index.
    """
    full = (
        f"{index}: the disk is full. Nothing that was in the index is lost; free some space and run the command again."
    )
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise GlamError(full) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise GlamError(f"{index} cannot be read or written ({error.strerror}). Check its permissions.") from error
        if error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(index):
            raise GlamError(
                f"{error.filename} cannot be read or written ({error.strerror}). Run `glam index verify {index}`."
            ) from error
        raise
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise GlamError(full) from error
        raise catalog_error(index, error) from error
