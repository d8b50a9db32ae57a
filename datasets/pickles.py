"""Reading pickles of plain values (lists, dicts, strings, numbers) without ever running what a pickle can name.

A pickle is a program: it may import and call anything. The files published in this field hold plain values, which need
no import at all, so one that asks for any is refused.
"""

import pickle
from pathlib import Path
from typing import Any, NoReturn

from glam.errors import GlamError

_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What the unpickler raises on bytes that are no pickle, or half of one."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain values are read from a pickle")


def read_plain_pickle(path: Path) -> Any:
    """The value in a pickle of plain values.

    Raises:
        GlamError: there is no such file, it is damaged, or it asks for any class or function.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except OSError as error:
        raise GlamError(f"{path}: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise GlamError(f"{path}: not a pickle that can be read: {error}") from error
