"""Output files of commands: checked before the work begins, written atomically, each failure in one sentence.

    check_output --work--> write_output

An output never replaces an input or a file of another kind. Each format declares its `OutputKind` where it is written.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from glam.atomic_file import atomic_write
from glam.errors import GlamError


@dataclass(frozen=True)
class OutputKind:
    """What may be replaced by an output.

    Attributes:
        name: with its article, as in ``a model file``.
        matches: whether an existing file is of this kind; any exception means that it is not.
    """

    name: str
    matches: Callable[[Path], bool]


def check_output(path: Path, kind: OutputKind, inputs: Iterable[Path] = ()) -> None:
    """Makes sure that an output can be written and replaces nothing but an earlier output.

    Args:
        path: of the output.
        kind: what is written.
        inputs: files and folders that the command reads, existing or not.

    Raises:
        GlamError: it cannot be written, is an input, or would replace a file of another kind.
    """
    check_not_input(path, inputs)
    with write_errors(path):
        if path.is_dir():
            raise GlamError(f"{path} is a folder. Choose the name of a file for the output.")
        if _is_stream(path):
            return
        if path.exists() and not _matches(path, kind):
            raise GlamError(f"{path} exists and is not {kind.name}. Choose another name, or move that file away.")
        _probe(path.resolve().parent)


@contextmanager
def write_output(path: Path) -> Iterator[Path]:
    """Gives a path to write to, as `glam.atomic_file.atomic_write` does; a device or a pipe is written to directly.

    Args:
        path: of the output; its folder is made. A symbolic link stays, and its target is written.

    Raises:
        GlamError: it cannot be written.
    """
    with write_errors(path), nullcontext(path) if _is_stream(path) else atomic_write(path.resolve()) as partial:
        yield partial


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file with indentation.

    Raises:
        GlamError: it cannot be written.
    """
    with write_output(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raises an error of the file system inside the block as a `GlamError` that names the output ``path``."""
    try:
        yield
    except OSError as error:
        raise GlamError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_not_input(path: Path, inputs: Iterable[Path]) -> None:
    """Makes sure that an output is none of the files and folders that the command reads, existing or not.

    Raises:
        GlamError: it is one of them.
    """
    if any(_same(path, source) for source in inputs):
        raise GlamError(f"{path} is an input of this command. Choose another name for the output.")


def has_json_keys(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file is a JSON object with all of these keys."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(value, dict) and value.keys() >= set(keys)


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, through links too."""
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist
        return path.resolve() == other.resolve()


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _matches(path: Path, kind: OutputKind) -> bool:
    try:
        return kind.matches(path)
    except Exception:  # noqa: BLE001  (readers of formats raise all kinds on foreign files)
        return False


def _probe(folder: Path) -> None:
    """Writes an unnamed file into a folder, or into the one that it would be made in.

    Raises:
        OSError: that is not possible. Permissions alone do not tell: root has them all, and a disk may be read-only.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass
