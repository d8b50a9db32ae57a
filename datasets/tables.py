"""Text and CSV input for the readers: decoding, header lines, and checks of relative paths."""

import csv
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from glam.errors import GlamError, system_reason


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
        raise GlamError(f"{file} cannot be opened: {system_reason(error)}. Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise GlamError(f"{file} is not a text file in UTF-8 ({error}). Save it as UTF-8.") from error


def header_of(file: Path) -> list[str]:
    """The column names in the first line of a CSV file; empty for an empty file.

    Raises:
        GlamError: the file cannot be opened or is not UTF-8 text.
    """
    with open_text(file) as text:
        return next((row for _, row in csv_rows(text, file)), [])


def csv_rows(text: TextIO, file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV file that are not blank, each with the number of the line on which it begins.

    Spaces after a comma do not belong to the field, unless it is in quotes.

    Args:
        text: the file, opened by `open_text`.
        file: path of the file, for error messages.

    Raises:
        GlamError: a quote is not closed, a field is too long, or a line contains a NUL character.
    """
    rows = csv.reader(text, skipinitialspace=True, strict=True)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            too_long = (
                f", or a field of more than {csv.field_size_limit():,} characters" if "limit" in str(error) else ""
            )
            raise GlamError(
                f"{file}: line {line} has a quote that is not closed or that text follows{too_long} ({error}). "
                "Close it, and double each quote inside a quoted field."
            ) from error
        if any("\0" in field for field in row):
            raise GlamError(f"{file}: line {line} contains a NUL character. Save the file as UTF-8 text.")
        if row not in ([], [""]):
            yield line, row


def safe_path(path: str, origin: Path | str, root: Path | None = None) -> str:
    """Checks that a path stays below its folder, and returns it in its shortest form, relative to the folder.

    Args:
        path: path with forward slashes.
        origin: where the path was found, such as a file or its line, for the error message.
        root: the folder; an absolute path below it is made relative. None to refuse absolute paths.

    Raises:
        GlamError: the path is empty, names no file, leads out of the folder, or contains a NUL character.
    """
    if root is not None and path.startswith("/"):
        path = _relative(path, root)
    if not path:
        raise GlamError(f"{origin}: the path is empty. Give the path of an image file.")
    if path[0] == "/" or "\0" in path or (".." in path and ".." in path.split("/")):
        raise GlamError(f"{origin}: the path {path!r} leads out of the folder. Use relative paths without '..'.")
    if "//" in path or "./" in path or path[-1] in "/.":
        path = posixpath.normpath(path)
        if path == ".":
            raise GlamError(f"{origin}: a path names the folder itself. Give the path of an image file.")
    return path


def _relative(path: str, root: Path) -> str:
    """An absolute path relative to a folder, as given or with links resolved; unchanged if it is not below it."""
    for folder in (root.absolute(), root.resolve()):
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).as_posix()
    return path
