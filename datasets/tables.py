"""Reading lists of images from text: open, decode and split a CSV file, and refuse paths that lead out."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from glam.errors import GlamError


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """A UTF-8 text file opened for reading; line ends as they are.

    Raises:
        GlamError: it cannot be opened, or what is read from it while it is open is no UTF-8 or no CSV.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            yield text
    except OSError as error:
        raise GlamError(f"{file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise GlamError(f"{file}: not a text file that can be read: {error}") from error


def header_of(file: Path) -> list[str]:
    """The column names in the first line of a CSV file; empty for an empty file."""
    with open_text(file) as text:
        return next(csv.reader(text), [])


def safe_path(path: str, origin: Path) -> str:
    """Checks that a path stays below the folder that it is relative to, and returns the path.

    Args:
        path: relative, with forward slashes.
        origin: the file that names it, for the error.

    Raises:
        GlamError: it is empty or absolute, or climbs with ``..``.
    """
    if not path or path[0] == "/" or (".." in path and ".." in path.split("/")):
        raise GlamError(f"{origin}: the path {path!r} leads out of the folder")
    return path
