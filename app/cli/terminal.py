"""Output of the commands: progress, tables, warnings. Only results go to standard output, so that it can be piped."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from glam.progress import Progress

notes = Console(stderr=True, highlight=False)
results = Console(highlight=False)

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show the progress of a long task: a bar on a terminal, plain lines elsewhere."""
    if not notes.is_terminal:
        yield _lines(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=notes) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(columns: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """Prints a table to standard output; the first column is text, the others are aligned as numbers."""
    shown = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for i, column in enumerate(columns):
        shown.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    results.print(shown)


def percent(fraction: float, form: str = ".1f") -> str:
    """A fraction in percent; a dash for NaN."""
    return f"{100 * fraction:{form}}" if fraction == fraction else "-"


def as_json(value: Any) -> None:
    """Prints one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def unreadable(files: list[tuple[str, str]]) -> None:
    """List files that could not be read, each with its reason."""
    if files:
        notes.print(f"[yellow]{len(files)} could not be read:[/yellow]")
        for path, reason in files:
            notes.print(f"  {path}: {reason}", markup=False, soft_wrap=True)


def _lines(title: str) -> Progress:
    """Report progress on plain lines, every few seconds and at the end."""
    began = time.monotonic()
    last = began

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = "" if not 0 < done < total else f", {(now - began) / done * (total - done):.0f} s left"
        notes.print(f"{title}: {done} of {total}{left}")

    return report
