"""Digests (BLAKE2b, 128 bits, 32 hexadecimal digits), and checksums.json with the digests of an index's files.

    Writer --write_checksums--> checksums.json --read_checksums--> verify, and the next Writer before its first change

`checksums.json` holds the digests of the catalog and of `search/list.json`, which in turn hold the digests of the
descriptors and of the search structure. So a small change does not require hashing large files again. A writer deletes
`checksums.json` before its first change; if the file is missing, the last writer did not finish.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from glam.atomic_file import atomic_write, flush
from glam.errors import GlamError
from glam.strict_json import parse_json

CHECKSUMS = "checksums.json"

NAME = re.compile(r"(\w+/)?\w+\.\w+")
"""Names of files that checksums.json can list: in the folder of the index, or in a folder in it."""

_blake2b = partial(hashlib.blake2b, digest_size=16)


def digest(data: bytes | memoryview) -> str:
    """Digest of bytes."""
    return _blake2b(data).hexdigest()


def digest_parts(parts: Iterable[bytes | memoryview]) -> str:
    """Digest of the concatenation of parts."""
    total = _blake2b()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def digest_stream(file: BinaryIO) -> str:
    """Digest of an open file from its current position to its end."""
    return hashlib.file_digest(file, _blake2b).hexdigest()  # type: ignore[arg-type]


def digest_file(file: Path) -> str:
    """Digest of a file.

    Raises:
        OSError: the file cannot be read.
    """
    with file.open("rb") as data:
        return digest_stream(data)


def write_checksums(index: Path, digests: dict[str, str]) -> None:
    """Writes checksums.json atomically.

    Args:
        index: folder of the index.
        digests: digest of each file by its path relative to ``index``.
    """
    atomic_write_bytes(index / CHECKSUMS, _text(digests).encode())


def read_checksums(index: Path) -> dict[str, str] | None:
    """Reads checksums.json.

    Args:
        index: folder of the index.

    Returns:
        The digest of each listed file by its path relative to ``index``; None if the last writer did not finish.

    Raises:
        GlamError: checksums.json is damaged.
    """
    try:
        text = (index / CHECKSUMS).read_bytes()
    except FileNotFoundError:
        return None
    try:
        digests: dict[str, str] = parse_json(text)["files"]
        # Byte by byte; the text includes a digest of the digests.
        if all(NAME.fullmatch(name) for name in digests) and _text(digests).encode() == text:
            return digests
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise GlamError(f"{index / CHECKSUMS} is damaged. Run `glam index verify`; if it names no other file, delete it.")


def delete_checksums(index: Path) -> None:
    """Deletes checksums.json to mark the index as being changed. The deletion is on disk on return."""
    (index / CHECKSUMS).unlink(missing_ok=True)
    flush(index)


def atomic_write_bytes(file: Path, content: bytes) -> None:
    """Writes a file atomically. Its content is on disk on return."""
    with atomic_write(file, on_disk=True) as partial:
        partial.write_bytes(content)


def _text(digests: dict[str, str]) -> str:
    own = digest(json.dumps(digests, sort_keys=True).encode())
    return json.dumps({"files": digests, "own": own}, indent=2, sort_keys=True) + "\n"
