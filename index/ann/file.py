"""A structure on disk: one FAISS file, and at its end one line of JSON with what FAISS does not keep."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss

from glam.atomic_file import atomic_write
from glam.errors import GlamError

LONGEST_LINE = 4096


@dataclass(frozen=True)
class StructureFile:
    """What a file of a structure holds.

    Attributes:
        index: the FAISS index.
        facts: ``kind`` and what that kind wrote beside.
    """

    index: faiss.Index
    facts: dict[str, Any]


def write_file(path: Path, index: faiss.Index, facts: dict[str, Any]) -> None:
    """Writes a structure, and returns once it is on the disk. The file may be there already, not half of it."""
    with atomic_write(path, on_disk=True) as partial:
        faiss.write_index(index, str(partial))
        with partial.open("ab") as file:
            file.write(b"\n" + json.dumps(facts).encode("ascii"))


def read_facts(path: Path) -> dict[str, Any]:
    """The line of JSON at the end.

    Raises:
        GlamError: the file is not there, or not one that `write_file` wrote.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - LONGEST_LINE, 0))
            facts = json.loads(file.read().rpartition(b"\n")[2])
    except (OSError, ValueError) as error:
        raise GlamError(f"{path}: no search structure that can be read ({error})") from error
    if not isinstance(facts, dict) or "kind" not in facts:
        raise GlamError(f"{path}: not a search structure")
    return facts


def read_file(path: Path) -> StructureFile:
    """Reads a structure.

    Raises:
        GlamError: the file is not there, or not one that `write_file` wrote.
    """
    facts = read_facts(path)
    try:
        return StructureFile(faiss.read_index(str(path)), facts)
    except RuntimeError as error:
        raise GlamError(f"{path}: FAISS cannot read it") from error
