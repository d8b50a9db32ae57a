"""Output of the commands. Results go to standard output, so that they can be piped; everything else to standard error.

say, table, as_json --> standard output      note, contents, skipped, unreadable, progress --> standard error
"""

import json
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from glam.datasets.collection import Collection, Skipped
from glam.datasets.workflow_folders import workflow_folders
from glam.errors import ImageError, InaccessibleError
from glam.plurals import count as count
from glam.progress import Progress

notes = Console(stderr=True, highlight=False, markup=False, emoji=False)
results = Console(highlight=False, markup=False, emoji=False)

SECONDS_BETWEEN_LINES = 5.0
"""Time between two progress lines where there is no terminal; arbitrary."""

NAMES_SHOWN = 3
"""Most names of landmarks in a warning; arbitrary, so that it stays readable."""

UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that `escape` replaces: control and format characters, surrogates, line and paragraph separators.
Format characters can reverse the text around them, and surrogates are bytes of a name that is not UTF-8."""


NUMERIC = re.compile(r"[-+\d.,% ]*")
"""A cell of a column of numbers: a number, a percentage, an interval, or nothing."""


def say(text: str) -> None:
    """Prints one line to standard output."""
    results.print(escape(text), soft_wrap=True)


def note(text: str) -> None:
    """Prints one line to standard error."""
    notes.print(escape(text), soft_wrap=True)


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Shows the progress of a long task: a bar on a terminal, plain lines elsewhere."""
    if not notes.is_terminal:
        yield _lines(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=notes) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(columns: list[str], rows: list[list[str]], title: str | None = None, *, piped_header: bool = True) -> None:
    """Prints a table to standard output: aligned on a terminal, one line with tabs per row elsewhere.

    Args:
        columns: titles of the columns; a column of numbers is aligned to the right.
        rows: cells, as many per row as there are columns.
        title: line above the table.
        piped_header: whether the titles of the columns are printed where there is no terminal.
    """
    if not results.is_terminal:
        for line in [*([[title]] if title else []), *([columns] if piped_header else []), *rows]:
            sys.stdout.write("\t".join(map(escape, line)) + "\n")
        return
    shown = Table(title=title and Text(escape(title)), box=None, pad_edge=False, title_justify="left")
    for i, column in enumerate(columns):
        is_numeric = i > 0 and all(NUMERIC.fullmatch(row[i]) for row in rows)
        shown.add_column(Text(escape(column)), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(escape(cell)) for cell in row))
    results.print(shown)


def as_json(value: Any) -> None:
    """Prints one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def unreadable(files: Sequence[tuple[str, str]]) -> None:
    """Lists files that could not be read, each with its reason."""
    _list_reasons(f"{count(len(files), 'file')} could not be read:", files)


def inaccessible(paths: Sequence[tuple[str, str]]) -> None:
    """Lists folders and indexed files that the system refused to open, each with its reason."""
    _list_reasons("Could not look at these; what the index knows of them is unchanged:", paths)


def skipped(found: Skipped, unreadable_count: int = 0) -> None:
    """Says in one line what a scan passed over, and lists links and folders that could not be listed with reasons."""
    summary = found.summary(unreadable_count)
    if summary:
        note(f"skipped: {summary}")
    _list_reasons("Folders that could not be listed:", found.unlisted)
    _list_reasons("Links that were not followed:", found.links)


def exit_if_incomplete(*collections: Collection | None, errors: Iterable[ImageError] = ()) -> None:
    """Ends the command with exit code 1 if the system refused to list a folder or to read an image.

    Args:
        collections: the images of each source; None for a source that was not given.
        errors: errors of images.
    """
    is_listed = not any(collection.skipped.unlisted for collection in collections if collection is not None)
    if not is_listed or any(isinstance(error, InaccessibleError) for error in errors):
        raise typer.Exit(1)


def contents(collection: Collection, option: str = "--landmark-from") -> None:
    """Says how many images and landmarks a collection has, and warns of landmarks that are folders for sorting.

    Args:
        collection: the images.
        option: name of the option that chooses what names the landmarks.
    """
    unknown = sum(not image.landmark for image in collection.images)
    without = f", {unknown:,} without a landmark" if unknown else ""
    landmarks = count(len(collection.landmarks), "landmark")
    note(f"{collection.source or collection.root}: {count(len(collection), 'image')} of {landmarks}{without}")
    doubtful_landmarks(collection, option)


def doubtful_landmarks(collection: Collection, option: str) -> None:
    """Warns of landmark names that look like folders for sorting, and names the option that chooses other names."""
    names = workflow_folders(collection)
    if names:
        such = ", ".join(f"'{name}'" for name in names[:NAMES_SHOWN])
        note(f"landmark names such as {such} look like folders for sorting, not landmarks; see {option}")


def _list_reasons(title: str, paths: Sequence[tuple[str, str]]) -> None:
    if paths:
        notes.print(Text(title, style="yellow"))
        for path, reason in paths:
            note(f"  {path}: {reason}")


def escape(text: str) -> str:
    """The text with a backslash escape for each character that a terminal would not show as itself."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in UNPRINTABLE else char
        for char in text
    )


def openable(path: Path) -> str:
    """A path that opens from the current folder: relative if the file is below it, else absolute."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def file_size(size: int) -> str:
    """A number of bytes in decimal units, as in ``1.1 MB``."""
    if size < 1000:
        return count(size, "byte")
    value, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.95:  # what is rounded to 1000.0 goes to the next unit
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def percent(fraction: float, form: str = ".1f") -> str:
    """A fraction in percent; a dash for NaN."""
    return f"{100 * fraction:{form}}" if fraction == fraction else "-"


def interval(low: float, high: float) -> str:
    """The ends of an interval, given as fractions, in percent."""
    return f"{percent(low)} - {percent(high)}"


def _lines(title: str) -> Progress:
    """Reports progress on plain lines, every few seconds and at the end."""
    began = time.monotonic()
    last, shown = began, -1

    def report(done: int, total: int) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if done == shown or (done < total and now - last < SECONDS_BETWEEN_LINES):
            return
        last, shown = now, done
        left = "" if not 0 < done < total else f", {(now - began) / done * (total - done):.0f} s left"
        note(f"{title}: {done} of {total}{left}")

    return report
