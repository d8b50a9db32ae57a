"""Calls of the operating system that fail, as for a disk with errors. Permissions would not stop root."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def refuse(
    monkeypatch: pytest.MonkeyPatch, call: str, refused: Path | Callable[[Path], bool], error: int = errno.EACCES
) -> None:
    """Makes a function of `os` fail for some paths.

    Args:
        monkeypatch: pytest's fixture.
        call: name of the function, such as ``open``, whose first argument is a path.
        refused: the path for which it fails, or a function that says so.
        error: number of the error.
    """
    usual = getattr(os, call)

    def failing(name: str | Path, *arguments: object, **options: object) -> object:
        path = Path(str(name))  # it may be a file descriptor
        if path == refused if isinstance(refused, Path) else refused(path):
            raise OSError(error, os.strerror(error), str(name))
        return usual(name, *arguments, **options)

    monkeypatch.setattr(os, call, failing)
