"""Digests of bytes (BLAKE2b, 128 bits, 32 hexadecimal digits), and checksums.json, which has those of an index's files.

    Writer --write_checksums--> checksums.json --find_damage--> verify, and the next Writer before it changes anything

It holds the digests of the catalog and of the search folder's list; these two hold the digests of all descriptors and
of the search structure. So a large file is never read again because a small one changed. A writer deletes it before its
first change: where there is none, the last writer did not come to its end.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from glam.atomic_file import atomic_write, flush
from glam.errors import GlamError

CHECKSUMS = "checksums.json"

_blake2b = partial(hashlib.blake2b, digest_size=16)


def digest(data: bytes | memoryview) -> str:
    """Of bytes."""
    return _blake2b(data).hexdigest()


def digest_parts(parts: Iterable[bytes | memoryview]) -> str:
    """Of bytes that come in parts, as if they were one."""
    total = _blake2b()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def digest_stream(file: BinaryIO) -> str:
    """Of what is left in an open file."""
    return hashlib.file_digest(file, _blake2b).hexdigest()  # type: ignore[arg-type]


def digest_file(file: Path) -> str:
    """Of a file on disk."""
    with file.open("rb") as data:
        return digest_stream(data)


def write_checksums(index: Path, files: list[Path]) -> None:
    """Writes the digests of these files of the index in the folder ``index``; whole or not at all."""
    digests = {file.relative_to(index).as_posix(): digest_file(file) for file in files}
    atomic_write_bytes(index / CHECKSUMS, _text(digests).encode())


def read_checksums(index: Path) -> dict[str, str] | None:
    """The digest of each file, by its path in the index; None where the last writer did not come to its end.

    Raises:
        GlamError: the file is damaged.
    """
    try:
        text = (index / CHECKSUMS).read_bytes()
    except FileNotFoundError:
        return None
    try:
        digests: dict[str, str] = json.loads(text)["files"]
        if _text(digests).encode() == text:  # to the byte, so that it vouches for itself
            return digests
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise GlamError(f"{index / CHECKSUMS}: damaged; if `glam index verify` names no other file, delete this one")


def delete_checksums(index: Path) -> None:
    """Says that the index is being changed, and returns once that is on the disk."""
    (index / CHECKSUMS).unlink(missing_ok=True)
    flush(index)


def atomic_write_bytes(file: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all, and returns once it is on the disk."""
    with atomic_write(file, on_disk=True) as partial:
        partial.write_bytes(content)


def _text(digests: dict[str, str]) -> str:
    own = digest(json.dumps(digests, sort_keys=True).encode())
    return json.dumps({"files": digests, "own": own}, indent=2, sort_keys=True) + "\n"
