"""Text and CSV input for the readers: decoding, header lines, and checks of relative paths."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from glam.errors import GlamError


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """Opens a UTF-8 text file for reading, without converting line ends.

    Args:
        file: path of the file.

    Raises:
        GlamError: the file cannot be opened, or its content turns out not to be UTF-8 or not CSV while it is open.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            yield text
    except OSError as error:
        raise GlamError(f"{file} cannot be opened: {error.strerror or error}. Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise GlamError(f"{file} is not a text file in UTF-8 ({error}). Save it as UTF-8.") from error


def header_of(file: Path) -> list[str]:
    """The column names in the first line of a CSV file; empty for an empty file.

    Raises:
        GlamError: the file cannot be opened or is not UTF-8 text.
    """
    with open_text(file) as text:
        return next(csv.reader(text), [])


def safe_path(path: str, origin: Path) -> str:
    """Checks that a relative path stays below its folder, and returns the path.

    Args:
        path: relative path with forward slashes.
        origin: the file that contains the path, for the error message.

    Raises:
        GlamError: the path is empty or absolute, or contains ``..``.
    """
    if not path or path[0] == "/" or (".." in path and ".." in path.split("/")):
        raise GlamError(f"{origin}: the path {path!r} leads out of the folder. Use relative paths without '..'.")
    return path
