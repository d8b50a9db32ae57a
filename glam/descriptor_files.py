"""Descriptors on disk: one safetensors file of float32 rows, and beside it a JSON file that says what each row is.

    places.safetensors   the array ``descriptors``, (n, dim); NaN where an image could not be read; facts in its header
    places.json          the same facts, ``paths`` in the order of the rows, ``unreadable``, {path: reason}, and where
                         the writer knows them ``files``, [hash, bytes, time in ns, width, height] of each

A file that was described in shards is put together again by `merge`, row for row what one run would have written.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.stage_times import Times

if TYPE_CHECKING:  # PyTorch takes seconds to load, and an index reads such files without it
    from glam.inference.pipeline import DescribedImage

SUFFIX = ".safetensors"
BLOCK = 65536
"""Rows that `merge` copies at a time."""


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``count``, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads ``3/64``.

        Raises:
            GlamError: that it is not.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise GlamError(f"a shard is given as in 3/64, not {text!r}")
        return cls(int(number), int(count))

    def of(self, total: int) -> range:
        """Which of ``total`` things are in it; every one is in one shard, in order."""
        return range((self.number - 1) * total // self.count, self.number * total // self.count)


def write_described(
    out: Path,
    stream: "Iterable[DescribedImage]",
    paths: Sequence[str],
    dim: int,
    facts: Mapping[str, Any],
    times: Times | None = None,
    files: Sequence[Sequence[str | int]] | None = None,
) -> dict[str, str]:
    """Writes what a stream describes, as it comes; both files are there wholly or not at all.

    Args:
        out: the safetensors file; its folder is made.
        stream: one result for each path, in any order.
        paths: what to call the images, by position in the stream.
        dim: length of a descriptor.
        facts: JSON values; they go into both files.
        times: receives ``write``.
        files: what to note of each image, by position in the stream, once that has ended.

    Returns:
        What could not be read: {path: reason}.

    Raises:
        GlamError: the file is not called .safetensors.
    """
    times = times or Times()
    unreadable: dict[int, str] = {}
    with _Writer(out, len(paths), dim, facts) as writer:
        for described in stream:
            with times.stage("write"):
                if described.descriptor is None:
                    writer.rows[described.position] = np.nan
                    unreadable[described.position] = str(described.error and described.error.reason)
                else:
                    writer.rows[described.position] = described.descriptor
        named = {paths[position]: unreadable[position] for position in sorted(unreadable)}
        with times.stage("write"):
            writer.finish(paths, named, files)
    return named


def merge(out: Path, shards: Sequence[Path]) -> int:
    """Puts all shards of one run together.

    Args:
        out: the safetensors file that is written.
        shards: those that `write_described` wrote, in any order; each of 1/n to n/n once.

    Returns:
        Rows in all.

    Raises:
        GlamError: a file is missing or not such a shard, or they are not all the shards of one run.
    """
    parts = sorted(((path, read_about(path)) for path in shards), key=lambda part: _shard(part[0], part[1]).number)
    facts = [_facts(about) for _, about in parts]
    counts = {_shard(path, about).count for path, about in parts}
    numbers = [_shard(path, about).number for path, about in parts]
    if len(counts) != 1 or numbers != list(range(1, counts.pop() + 1)):
        raise GlamError(f"not all shards of one run: {', '.join(about['shard'] for _, about in parts)}")
    for (path, _), other in zip(parts, facts, strict=True):
        for name, value in facts[0].items():
            if name != "shard" and other.get(name) != value:
                raise GlamError(f"{path}: its {name} is {other.get(name)!r}, of the others {value!r}")
    paths = [path for _, about in parts for path in about["paths"]]
    unreadable = {path: why for _, about in parts for path, why in about["unreadable"].items()}
    noted = all("files" in about for _, about in parts)
    files = [file for _, about in parts for file in about["files"]] if noted else None
    with _Writer(out, len(paths), facts[0]["dim"], {**facts[0], "shard": None}) as writer:
        first = 0
        for path, about in parts:
            rows = read_rows(path)
            if len(rows) != len(about["paths"]):
                raise GlamError(f"{path} has {len(rows)} rows, and {len(about['paths'])} paths in its .json")
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                writer.rows[first + start : first + start + len(block)] = block
            first += len(rows)
        writer.finish(paths, unreadable, files)
    return len(paths)


def read_rows(path: Path) -> NDArray[np.float32]:
    """Maps the rows of a file that `write_described` wrote: (n, dim) float32, read-only.

    Raises:
        GlamError: it is no such file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            shape = tuple(json.loads(file.read(length))["descriptors"]["shape"])
        if 0 in shape:
            return np.empty(shape, dtype=np.float32)
        return np.memmap(path, dtype="<f4", mode="r", offset=8 + length, shape=shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GlamError(f"{path}: not a file of descriptors that `glam describe` wrote ({error})") from error


class _Writer:
    """Both files, under other names until `finish`."""

    def __init__(self, out: Path, count: int, dim: int, facts: Mapping[str, Any]) -> None:
        if out.suffix != SUFFIX:
            raise GlamError(f"{out}: descriptors are written to a file called NAME{SUFFIX}")
        self.out = out
        self.facts = {**facts, "dim": dim, "count": count}
        self.partial = out.with_name(out.name + ".partial")
        out.parent.mkdir(parents=True, exist_ok=True)
        entry = {"dtype": "F32", "shape": [count, dim], "data_offsets": [0, 4 * count * dim]}
        header = json.dumps({"__metadata__": {"glam": json.dumps(self.facts)}, "descriptors": entry}).encode()
        header += b" " * (-len(header) % 8)
        with self.partial.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 4 * count * dim)
        self.rows: NDArray[np.float32] = (
            np.memmap(self.partial, dtype="<f4", mode="r+", offset=8 + len(header), shape=(count, dim))
            if count * dim
            else np.empty((count, dim), dtype=np.float32)
        )

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.partial.unlink(missing_ok=True)

    def finish(
        self, paths: Sequence[str], unreadable: Mapping[str, str], files: Sequence[Sequence[str | int]] | None
    ) -> None:
        """Gives both files their names."""
        if isinstance(self.rows, np.memmap):
            self.rows.flush()
        companion = self.out.with_suffix(".json")
        partial = companion.with_name(companion.name + ".partial")
        partial.write_text(
            _text(
                {**self.facts, "unreadable": dict(unreadable)}, {"paths": paths} | ({"files": files} if files else {})
            ),
            encoding="utf-8",
        )
        partial.replace(companion)
        self.partial.replace(self.out)


def read_about(path: Path) -> dict[str, Any]:
    """What the JSON file beside a file of descriptors says.

    Raises:
        GlamError: it is not there, or no such file.
    """
    try:
        about: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GlamError(f"{path.with_suffix('.json')}: cannot be read ({error})") from error
    if not isinstance(about, dict) or not {"paths", "unreadable", "shard", "dim"} <= about.keys():
        raise GlamError(f"{path.with_suffix('.json')}: not of a file that `glam describe` wrote")
    return about


def _text(facts: Mapping[str, Any], columns: Mapping[str, Sequence[object]]) -> str:
    """A JSON object with a line for each fact and each entry of a column."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    for name, column in columns.items():
        entries = ",\n".join(f"  {json.dumps(entry)}" for entry in column)
        lines.append(f" {json.dumps(name)}: [\n{entries}\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _facts(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name not in ("paths", "unreadable", "count", "files")}


def _shard(path: Path, about: Mapping[str, Any]) -> Shard:
    if about["shard"] is None:
        raise GlamError(f"{path} is no shard; it was described in one run")
    return Shard.parse(about["shard"])
