"""How long work tells how far it is."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of items done and the total; a function that takes one says what its items are."""


def no_progress(done: int, total: int) -> None:
    """Ignores progress."""
