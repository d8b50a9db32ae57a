"""Progress callbacks of long operations."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Callback with the number of items done and the total. Functions that take one document what their items are."""


def no_progress(done: int, total: int) -> None:
    """Ignores progress.

    Args:
        done: number of items done.
        total: number of items.
    """
