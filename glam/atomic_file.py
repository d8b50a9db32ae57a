"""Atomic writes: a file appears complete, or not at all. And folders that survive a power failure."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path, *, on_disk: bool = False) -> Iterator[Path]:
    """Writes a file atomically: the block writes to a temporary path, which then replaces ``path``.

    An error inside the block deletes the temporary file and leaves ``path`` unchanged.

    Args:
        path: file to write or replace; its folder is created.
        on_disk: whether to flush the content and the name to disk before returning, to survive a power failure.

    Yields:
        Temporary path in the same folder.
    """
    make_folder(path.parent, on_disk=on_disk)
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


def make_folder(path: Path, *, on_disk: bool = False) -> None:
    """Creates a folder and its missing parents; does nothing if it exists.

    Args:
        path: path of the folder.
        on_disk: whether to flush the names of the new folders to disk before returning, to survive a power failure.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    if on_disk:
        for folder in reversed(missing):
            flush(folder.parent)


def flush(path: Path) -> None:
    """Flushes the content of a file, or the names in a folder, to disk (``fsync``).

    Args:
        path: existing file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
