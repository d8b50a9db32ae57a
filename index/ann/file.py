"""Files of search structures: a FAISS index, followed by one line of JSON with facts that FAISS does not store."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss

from glam.atomic_file import atomic_write
from glam.errors import GlamError
from glam.strict_json import parse_json

LONGEST_LINE = 4096
"""Most bytes of the line of JSON (arbitrary; far more than the tuning of `ivf_pq` takes)."""


@dataclass(frozen=True)
class StructureFile:
    """The content of a file.

    Attributes:
        index: the FAISS index.
        facts: the JSON object: ``kind``, and values that depend on the kind.
    """

    index: faiss.Index
    facts: dict[str, Any]


def write_file(path: Path, index: faiss.Index, facts: dict[str, Any]) -> None:
    """Writes a structure atomically. It is on disk on return.

    Args:
        path: path of the file, which may exist.
        index: the FAISS index.
        facts: a JSON object with the key ``kind``.
    """
    with atomic_write(path, on_disk=True) as partial:
        faiss.write_index(index, str(partial))
        with partial.open("ab") as file:
            file.write(b"\n" + json.dumps(facts).encode("ascii"))


def read_facts(path: Path) -> dict[str, Any]:
    """Reads the JSON object at the end of a file.

    Args:
        path: path of the file.

    Raises:
        GlamError: the file does not exist, or `write_file` did not write it.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LONGEST_LINE, 0))
            facts = parse_json(file.read().rpartition(b"\n")[2])
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(facts, dict) or "kind" not in facts:
        raise _damaged(path)
    return facts


def read_file(path: Path) -> StructureFile:
    """Reads a structure.

    Args:
        path: path of the file.

    Raises:
        GlamError: the file does not exist, or `write_file` did not write it.
    """
    facts = read_facts(path)
    try:
        return StructureFile(faiss.read_index(str(path)), facts)
    except Exception as error:  # FAISS raises anything, such as MemoryError, for bytes that it did not write
        raise _damaged(path) from error


def _damaged(path: Path) -> GlamError:
    return GlamError(
        f"The search structure {path} is damaged. Delete {path.parent}; it is a cache and will be rebuilt."
    )
