"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path, *, on_disk: bool = False) -> Iterator[Path]:
    """Gives a path beside ``path`` to write to, in a folder that is made if need be; the file gets its name when the
    block ends without an error, in the place of one that was there.

    Args:
        path: of the file.
        on_disk: whether to return only once content and name are on the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        if on_disk:
            flush(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if on_disk:
        flush(path.parent)


def flush(path: Path) -> None:
    """Returns once the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
