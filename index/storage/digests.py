"""The one digest that an index knows bytes by: BLAKE2b of 128 bits, 32 hexadecimal digits."""

import hashlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

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
