"""Safe reading of pickles of plain values: lists, dicts, strings, and numbers.

A pickle is a program that may import and call anything. The pickles published for image retrieval hold plain values,
which need no import, so a pickle that imports a class or a function is refused.
"""

import pickle
from pathlib import Path
from typing import Any, NoReturn

from glam.errors import GlamError, system_reason
from glam.images import open_regular_file


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it imports {module}.{name}, but only plain values are read from pickles")


def read_plain_pickle(path: Path) -> Any:
    """Reads a pickle without running any code from it.

    Args:
        path: the pickle.

    Returns:
        The value in it, made of lists, tuples, dicts, strings, numbers, and the like.

    Raises:
        GlamError: the file cannot be opened, is damaged, or imports a class or a function.
    """
    try:
        with open_regular_file(path) as file:
            return _PlainUnpickler(file).load()
    except OSError as error:
        raise GlamError(f"{path} cannot be opened: {system_reason(error)}. Check the path.") from error
    except Exception as error:  # the unpickler raises anything for bytes that are not a pickle, or only part of one
        raise GlamError(
            f"{path} is not a pickle that can be read safely ({error}). Download the published file again."
        ) from error
