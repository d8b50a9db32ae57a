"""Descriptors on disk: one safetensors file of float32 rows, and beside it a JSON file that says what each row is.

    places.safetensors   the array ``descriptors``, (n, dim); NaN where an image could not be read; facts in its header
    places.json          the same facts, ``paths`` in the order of the rows, ``unreadable``, {path: reason}, and where
                         the writer knows them ``files``, [hash, bytes, time in ns, width, height] of each

A shard also notes ``listing``: the number and the digest of all paths of the run, see `listing_of`.

`merge_shards` joins the files of a run in shards into one, row for row the file that a single run would have written.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.output import OutputKind, check_output, has_json_keys, write_output
from glam.stage_times import Times
from glam.tensor_file import create_tensor_file, map_tensor, read_header

if TYPE_CHECKING:  # PyTorch takes seconds to load, and an index reads such files without it
    from glam.inference.pipeline import DescribedImage

SUFFIX = ".safetensors"
DESCRIPTION_KEYS = frozenset({"paths", "unreadable", "shard", "dim"})
"""What the JSON file of every version has."""

NOT_SHARED = frozenset({"paths", "unreadable", "count", "files", "listing"})
"""What the JSON files of shards need not have in common, or what `merge_shards` compares by itself."""

BLOCK_ROWS = 65536
"""Rows that `merge_shards` copies at a time; arbitrary."""


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

    def indices(self, total: int) -> range:
        """The indices, out of ``total``, that are in this shard; every index is in one shard, in order."""
        return range((self.number - 1) * total // self.count, self.number * total // self.count)


def listing_of(paths: Iterable[str]) -> dict[str, Any]:
    """What each shard notes about the images of the whole run, in all shards together.

    Args:
        paths: of all images, in order.

    Returns:
        ``total``, and ``digest``: BLAKE2b-128 of the paths, each followed by a zero byte.
    """
    total, digest = 0, hashlib.blake2b(digest_size=16)
    for path in paths:
        total += 1
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
    return {"total": total, "digest": digest.hexdigest()}


def check_descriptor_output(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Makes sure that a file of descriptors and its JSON file can be written, see `glam.output.check_output`.

    Args:
        out: the safetensors file.
        inputs: files and folders that the command reads.

    Raises:
        GlamError: one of them cannot be written, or would replace something else.
    """
    description, inputs = _description_of(out), list(inputs)
    check_output(out, DESCRIPTORS, inputs)
    check_output(description, DESCRIPTION, inputs)


def write_descriptors(
    out: Path,
    stream: "Iterable[DescribedImage]",
    paths: Sequence[str],
    dim: int,
    facts: Mapping[str, Any],
    times: Times | None = None,
    files: Sequence[Sequence[str | int]] | None = None,
) -> dict[str, str]:
    """Writes the descriptors of a stream as they come; both files are complete, or neither is there.

    Args:
        out: the safetensors file; its folder is made.
        stream: one result for each path, in any order.
        paths: names of the images, by position in the stream.
        dim: length of a descriptor.
        facts: JSON values; they go into both files.
        times: receives ``write``.
        files: hash, size, time and shape of each image, by position in the stream; read once the stream has ended.

    Returns:
        What could not be read: {path: reason}.

    Raises:
        GlamError: a file cannot be written.
    """
    times = times or Times()
    unreadable: dict[int, str] = {}
    with _open_writer(out, len(paths), dim, facts) as writer:
        for described in stream:
            with times.stage("write"):
                if described.descriptor is None:
                    writer.descriptors[described.position] = np.nan
                    unreadable[described.position] = str(described.error and described.error.reason)
                else:
                    writer.descriptors[described.position] = described.descriptor
        unreadable_by_path = {paths[position]: unreadable[position] for position in sorted(unreadable)}
        with times.stage("write"):
            writer.finish(paths, unreadable_by_path, files)
    return unreadable_by_path


def merge_shards(out: Path, shards: Sequence[Path]) -> int:
    """Merges all shards of one run.

    Args:
        out: the safetensors file that is written.
        shards: those that `write_descriptors` wrote, in any order; each of 1/n to n/n once.

    Returns:
        Rows in all.

    Raises:
        GlamError: a file is missing or not such a shard, they are not all the shards of one run, or ``out`` is one of
            them or cannot be written.
    """
    check_descriptor_output(out, [file for path in shards for file in (path, path.with_suffix(".json"))])
    parts = sorted(((path, read_metadata(path)) for path in shards), key=lambda part: _shard(part[0], part[1]).number)
    facts = [_facts(metadata) for _, metadata in parts]
    counts = {_shard(path, metadata).count for path, metadata in parts}
    numbers = [_shard(path, metadata).number for path, metadata in parts]
    if len(counts) != 1 or numbers != list(range(1, counts.pop() + 1)):
        raise GlamError(f"not all shards of one run: {', '.join(metadata['shard'] for _, metadata in parts)}")
    paths = [path for _, metadata in parts for path in metadata["paths"]]
    _check_listings(parts, paths)
    for (path, _), part_facts in zip(parts, facts, strict=True):
        for name, value in facts[0].items():
            if name != "shard" and part_facts.get(name) != value:
                raise GlamError(f"{path}: its {name} is {part_facts.get(name)!r}, of the others {value!r}")
    unreadable = {path: why for _, metadata in parts for path, why in metadata["unreadable"].items()}
    have_files = all("files" in metadata for _, metadata in parts)
    files = [file for _, metadata in parts for file in metadata["files"]] if have_files else None
    with _open_writer(out, len(paths), facts[0]["dim"], {**facts[0], "shard": None}) as writer:
        first_row = 0
        for path, metadata in parts:
            descriptors = map_descriptors(path)
            if len(descriptors) != len(metadata["paths"]):
                raise GlamError(f"{path} has {len(descriptors)} rows, and {len(metadata['paths'])} paths in its .json")
            for block_start in range(0, len(descriptors), BLOCK_ROWS):
                block = descriptors[block_start : block_start + BLOCK_ROWS]
                writer.descriptors[first_row + block_start : first_row + block_start + len(block)] = block
            first_row += len(descriptors)
        writer.finish(paths, unreadable, files)
    return len(paths)


def map_descriptors(path: Path) -> NDArray[np.float32]:
    """Memory-maps the descriptors of a file that `write_descriptors` wrote: (n, dim) float32, read-only.

    Raises:
        GlamError: it is no such file.
    """
    try:
        entry = read_header(path)[0]["descriptors"]
        if entry.dtype != "F32" or len(entry.shape) != 2:
            raise ValueError(f"numbers of type {entry.dtype} and shape {entry.shape}")
        descriptors: NDArray[np.float32] = map_tensor(path, entry, "r")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GlamError(f"{path}: not a file of descriptors that `glam describe` wrote ({error})") from error
    return descriptors


@dataclass(frozen=True)
class _Writer:
    """Both files, under other names.

    Attributes:
        descriptors: (n, dim) float32, to be filled.
        description: path to write the JSON file to.
        facts: JSON values, for both files.
    """

    descriptors: NDArray[np.float32]
    description: Path
    facts: Mapping[str, Any]

    def finish(
        self, paths: Sequence[str], unreadable: Mapping[str, str], files: Sequence[Sequence[str | int]] | None
    ) -> None:
        """Writes what is left."""
        if isinstance(self.descriptors, np.memmap):
            self.descriptors.flush()
        self.description.write_text(
            _format_json(
                {**self.facts, "unreadable": dict(unreadable)}, {"paths": paths} | ({"files": files} if files else {})
            ),
            encoding="utf-8",
        )


@contextmanager
def _open_writer(out: Path, count: int, dim: int, facts: Mapping[str, Any]) -> Iterator[_Writer]:
    """Creates both files; they get their names when the block ends without an error, the JSON file first."""
    facts = {**facts, "dim": dim, "count": count}
    with write_output(out) as unfinished, write_output(_description_of(out)) as description:
        array = create_tensor_file(unfinished, "descriptors", (count, dim), {"glam": json.dumps(facts)})
        yield _Writer(array, description, facts)


def _description_of(out: Path) -> Path:
    if out.suffix != SUFFIX:
        raise GlamError(f"{out}: descriptors are written to a file called NAME{SUFFIX}")
    return out.with_suffix(".json")


def _is_descriptor_file(path: Path) -> bool:
    entries, metadata = read_header(path)
    return "descriptors" in entries and "glam" in metadata


DESCRIPTORS = OutputKind("a file of descriptors that `glam describe` wrote", _is_descriptor_file)
DESCRIPTION = OutputKind(
    "the JSON file that `glam describe` writes beside its descriptors", partial(has_json_keys, keys=DESCRIPTION_KEYS)
)


def read_metadata(path: Path) -> dict[str, Any]:
    """Reads the JSON file beside a file of descriptors.

    Raises:
        GlamError: there is none, or `glam describe` did not write it.
    """
    try:
        metadata: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GlamError(f"{path.with_suffix('.json')}: cannot be read ({error})") from error
    if not isinstance(metadata, dict) or not metadata.keys() >= DESCRIPTION_KEYS:
        raise GlamError(f"{path.with_suffix('.json')}: not of a file that `glam describe` wrote")
    return metadata


def _format_json(facts: Mapping[str, Any], columns: Mapping[str, Sequence[object]]) -> str:
    """A JSON object with a line for each fact and each entry of a column."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    for name, column in columns.items():
        entries = ",\n".join(f"  {json.dumps(entry)}" for entry in column)
        lines.append(f" {json.dumps(name)}: [\n{entries}\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in NOT_SHARED}


def _check_listings(parts: Sequence[tuple[Path, Mapping[str, Any]]], paths: Sequence[str]) -> None:
    """Makes sure that shards, in order, are all of one list of images.

    Args:
        parts: file and metadata of each. An earlier version of glam noted no listing; then rows and paths are compared.
        paths: of all of them.

    Raises:
        GlamError: the list changed between shards.
    """
    whole = listing_of(paths)
    for path, metadata in parts:
        listing = metadata.get("listing", whole)
        rows = len(_shard(path, metadata).indices(whole["total"]))
        if listing != whole or rows != len(metadata["paths"]):
            raise GlamError(
                f"{path}: the images that were listed changed between the shards ({whole['total']} in all shards). "
                "Describe all shards again from one list."
            )
    if len(set(paths)) < len(paths) and not any("listing" in metadata for _, metadata in parts):
        double = Counter(paths).most_common(1)[0][0]
        raise GlamError(f"{double} is in two shards: the images that were listed changed between them. Describe again.")


def _shard(path: Path, metadata: Mapping[str, Any]) -> Shard:
    if metadata["shard"] is None:
        raise GlamError(f"{path} is no shard; it was described in one run")
    return Shard.parse(metadata["shard"])
