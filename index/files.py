"""The files of the photographs: read ahead of the model, and known again by size, time and content.

build, add --read_ahead--> bytes for the model, facts for the catalogue          sync --read_facts--> the same facts
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from glam.datasets.collection import Photo
from glam.index.catalogue import Facts

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
    facts: Facts


def read_ahead(root: Path, photos: Iterable[Photo]) -> Iterator[FileRead]:
    """Reads files in threads, a few ahead, in the order given."""
    queue: deque[Future[FileRead]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="read") as pool:
        try:
            for photo in photos:
                queue.append(pool.submit(_read, root, photo))
                if len(queue) > AHEAD:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


def read_facts(root: Path, photo: Photo) -> Facts | None:
    """The facts of a file with its hash; None where it cannot be read."""
    try:
        with (root / photo.path).open("rb") as file:
            stat = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None
    return _facts(photo, digest, stat.st_size, stat.st_mtime_ns)


def size_and_time(file: Path) -> tuple[int, int] | None:
    """Bytes and modification time in nanoseconds of a file; None where it is not there."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def metadata_json(photo: Photo) -> str:
    """The metadata of a photograph as the catalogue keeps it."""
    return json.dumps(dict(photo.metadata), sort_keys=True, ensure_ascii=False)


def _read(root: Path, photo: Photo) -> FileRead:
    try:
        with (root / photo.path).open("rb") as file:
            stat = os.fstat(file.fileno())
            data = file.read()
    except OSError:
        return FileRead(root / photo.path, _facts(photo, "", 0, 0))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return FileRead(data, _facts(photo, digest, len(data), stat.st_mtime_ns))


def _facts(photo: Photo, digest: str, size: int, modified: int) -> Facts:
    return Facts(photo.path, photo.landmark, metadata_json(photo), digest, size, modified)
