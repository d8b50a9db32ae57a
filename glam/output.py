"""Output files of commands: checked before the work begins, and written atomically after it.

    check_output --work--> write_output

An output never replaces an input or a file of another kind. Each format declares an `OutputKind` in the module that
writes it.
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
    """A kind of output file; an output replaces only files of its own kind.

    Attributes:
        name: name with its article, such as ``a model file``.
        matches: function that returns whether an existing file is of this kind; an exception counts as no.
    """

    name: str
    matches: Callable[[Path], bool]


def check_output(path: Path, kind: OutputKind, inputs: Iterable[Path] = ()) -> None:
    """Checks that an output can be written, and would replace nothing but an earlier output.

    Args:
        path: output file.
        kind: kind of the output.
        inputs: files and folders that the command reads, existing or not.

    Raises:
        GlamError: the output cannot be written, is an input, or would replace a file of another kind.
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
    """Writes an output atomically, see `glam.atomic_file.atomic_write`. A device or a pipe is written directly.

    Args:
        path: output file; its folder is created. If it is a symbolic link, its target is written.

    Yields:
        Path to write to.

    Raises:
        GlamError: the output cannot be written.
    """
    with write_errors(path), nullcontext(path) if _is_stream(path) else atomic_write(path.resolve()) as partial:
        yield partial


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file with indentation, atomically.

    Args:
        path: output file; its folder is created.
        value: JSON value.

    Raises:
        GlamError: the file cannot be written.
    """
    with write_output(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Converts file system errors inside the block to a `GlamError` that names the output.

    Args:
        path: output file that the block writes.

    Raises:
        GlamError: the file system reports an error.
    """
    try:
        yield
    except OSError as error:
        raise GlamError(
            f"{path}: cannot be written: {error.strerror or error}. Check the permissions and free space of its folder."
        ) from error


def check_not_input(path: Path, inputs: Iterable[Path]) -> None:
    """Checks that an output is not an input of the command, through links either.

    Args:
        path: output file.
        inputs: files and folders that the command reads, existing or not.

    Raises:
        GlamError: the output is an input.
    """
    if any(_same(path, source) for source in inputs):
        raise GlamError(f"{path} is an input of this command. Choose another name for the output.")


def has_json_keys(path: Path, keys: Iterable[str]) -> bool:
    """Returns whether a file is a JSON object with all of the given keys.

    Args:
        path: file to read.
        keys: keys that the object must have.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(value, dict) and value.keys() >= set(keys)


def _same(path: Path, other: Path) -> bool:
    """Returns whether two paths lead to the same file, also through links."""
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist
        return path.resolve() == other.resolve()


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _matches(path: Path, kind: OutputKind) -> bool:
    try:
        return kind.matches(path)
    except Exception:  # noqa: BLE001  (readers raise many types on foreign files)
        return False


def _probe(folder: Path) -> None:
    """Writes an unnamed file to a folder, or to its closest existing parent.

    Permission bits are not enough: root ignores them, and the disk can be read-only.

    Raises:
        OSError: the folder is not writable.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass
