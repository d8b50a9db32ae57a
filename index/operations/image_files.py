"""Reads image files ahead of the model, and records the size, modification time, and hash that identify each of them.

build, add --read_ahead--> bytes for the model, facts for the catalog          sync --read_facts--> the same facts
"""

import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from glam.datasets.collection import ImageFile
from glam.errors import GONE, ImageError, InaccessibleError
from glam.images import image_errors, open_regular_file
from glam.images.limits import MAX_BYTES, check_bytes
from glam.index.storage.checksums import digest, digest_stream
from glam.index.storage.records import FileFacts
from glam.parallel_map import parallel_map
from glam.stage_times import Times

THREADS = 4
"""Threads that read files (arbitrary)."""

AHEAD = 16
"""Files read ahead of the model and held in memory (arbitrary)."""


class FileRead(NamedTuple):
    """The result of reading a file.

    Attributes:
        source: bytes of the file; its path if it could not be read, so that decoding reports the reason.
        facts: size, modification time, and hash of these bytes.
        reason: why the file could not be read; '' if it was read.
        failure: kind of the reason: "gone" if there is no file, "inaccessible" if the system refused to read it, so
            that it may be sound, and "unreadable" for anything else; '' if it was read.
    """

    source: bytes | Path
    facts: FileFacts
    reason: str = ""
    failure: Literal["", "gone", "inaccessible", "unreadable"] = ""


def read_ahead(
    root: Path, images: Iterable[ImageFile], *, threads: int = THREADS, times: Times | None = None
) -> Iterator[FileRead]:
    """Reads image files in threads with a bounded look-ahead.

    Args:
        root: folder that the paths of the images are relative to.
        images: images to read.
        threads: number of threads.
        times: receives the time spent in the stage ``read``.

    Returns:
        The files in the order of ``images``.
    """
    function = partial(_read, root, times or Times())
    return parallel_map(function, images, threads=threads, ahead=max(AHEAD, 2 * threads) + 1, name="read")


def read_facts(root: Path, image: ImageFile) -> FileFacts | None:
    """Reads and hashes the file of an image.

    Args:
        root: folder that the path of the image is relative to.
        image: the image.

    Returns:
        The facts of the file; None if it cannot be read.
    """
    try:
        return read_facts_or_raise(root, image)
    except OSError:
        return None


def read_facts_or_raise(root: Path, image: ImageFile) -> FileFacts:
    """Reads and hashes the file of an image.

    Args:
        root: folder that the path of the image is relative to.
        image: the image.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular_file(root / image.path) as file:
        stat = os.fstat(file.fileno())
        content = digest_stream(file)
    return facts_of(image, content, stat.st_size, stat.st_mtime_ns)


def size_and_time(file: Path) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds of a file; None if it does not exist.

    Raises:
        OSError: the file may exist, but the system refuses to say.
    """
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: the path contains a NUL
        return None
    return stat.st_size, stat.st_mtime_ns


def is_gone(path: Path) -> bool:
    """Whether there is nothing at a path. False also if the system refuses to say."""
    try:
        path.stat()
    except OSError as error:
        return error.errno in GONE
    return False


def is_same_path(one: str | Path, other: str | Path) -> bool:
    """Whether two paths, with links followed, are the same folder or file."""
    return os.path.realpath(one) == os.path.realpath(other)


def metadata_json(image: ImageFile) -> str:
    """The metadata of an image as the JSON text that the catalog stores."""
    return json.dumps(dict(image.metadata), sort_keys=True, ensure_ascii=False)


def _read(root: Path, times: Times, image: ImageFile) -> FileRead:
    path = root / image.path
    try:
        with image_errors(path), times.stage("read"), open_regular_file(path) as file:
            stat = os.fstat(file.fileno())
            check_bytes(stat.st_size, MAX_BYTES, str(path))
            data = file.read()
    except ImageError as error:
        return FileRead(path, facts_of(image, "", 0, 0), error.reason, _failure(error))
    return FileRead(data, facts_of(image, digest(data), len(data), stat.st_mtime_ns))


def _failure(error: ImageError) -> Literal["gone", "inaccessible", "unreadable"]:
    """The kind of an error that reading a file raised."""
    if isinstance(error, InaccessibleError):
        return "inaccessible"
    cause = error.__cause__
    return "gone" if isinstance(cause, OSError) and cause.errno in GONE else "unreadable"


def facts_of(image: ImageFile, content: str, size: int, modified: int) -> FileFacts:
    """The facts of an image's file as the catalog stores them.

    Args:
        image: path, landmark, and metadata.
        content: BLAKE2b-128 of the file in hexadecimal digits; '' if it was not read.
        size: size of the file in bytes.
        modified: modification time of the file in nanoseconds.
    """
    return FileFacts(image.path, image.landmark, metadata_json(image), content, size, modified)
