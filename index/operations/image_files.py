"""The files of the images: read ahead of the model, and known again by size, time and content.

build, add --read_ahead--> bytes for the model, facts for the catalog          sync --read_facts--> the same facts
"""

import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from glam.datasets.collection import ImageFile
from glam.index.storage.catalog import FileFacts
from glam.index.storage.checksums import digest, digest_stream
from glam.parallel_map import parallel_map
from glam.stage_times import Times

THREADS = 4
AHEAD = 16
"""Files held in memory before the model asks for them."""


class FileRead(NamedTuple):
    """A file that was read, or not.

    Attributes:
        source: its bytes; its path where it could not be read, so that the reader of images says why.
        facts: of these very bytes.
    """

    source: bytes | Path
    facts: FileFacts


def read_ahead(
    root: Path, images: Iterable[ImageFile], *, threads: int = THREADS, times: Times | None = None
) -> Iterator[FileRead]:
    """Reads files in threads, a few ahead, in the order given; ``times`` receives ``read``."""
    function = partial(_read, root, times or Times())
    return parallel_map(function, images, threads=threads, ahead=max(AHEAD, 2 * threads) + 1, name="read")


def read_facts(root: Path, image: ImageFile) -> FileFacts | None:
    """The facts of a file with its hash; None where it cannot be read."""
    try:
        with (root / image.path).open("rb") as file:
            stat = os.fstat(file.fileno())
            content = digest_stream(file)
    except OSError:
        return None
    return facts_of(image, content, stat.st_size, stat.st_mtime_ns)


def size_and_time(file: Path) -> tuple[int, int] | None:
    """Bytes and modification time in nanoseconds of a file; None where it is not there."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def metadata_json(image: ImageFile) -> str:
    """The metadata of an image as the catalog keeps it."""
    return json.dumps(dict(image.metadata), sort_keys=True, ensure_ascii=False)


def _read(root: Path, times: Times, image: ImageFile) -> FileRead:
    try:
        with times.stage("read"), (root / image.path).open("rb") as file:
            stat = os.fstat(file.fileno())
            data = file.read()
    except OSError:
        return FileRead(root / image.path, facts_of(image, "", 0, 0))
    return FileRead(data, facts_of(image, digest(data), len(data), stat.st_mtime_ns))


def facts_of(image: ImageFile, content: str, size: int, modified: int) -> FileFacts:
    """What the catalog keeps of an image whose file has this hash, size and time."""
    return FileFacts(image.path, image.landmark, metadata_json(image), content, size, modified)
