"""Descriptor files: a safetensors file of float32 rows, and a JSON file that says which image each row belongs to.

    places.safetensors   array ``descriptors``, (n, dim), float32, NaN for unreadable images; metadata in its header
    places.json          the same metadata, ``paths`` in the order of the rows, ``unreadable``, {path: reason}, and
                         optionally ``files``, [hash, bytes, time in ns, width, height] per row

The JSON file of a shard also has ``listing``, the number and a checksum of all paths of the run, see `listing_of`.
`merge_shards` merges all shards of a run; the result equals the file that a run without shards would have written.
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
from glam.strict_json import parse_json
from glam.tensor_file import create_tensor_file, map_tensor, read_header

if TYPE_CHECKING:  # PyTorch takes seconds to load, and an index reads such files without it
    from glam.inference.pipeline import DescribedImage

SUFFIX = ".safetensors"
DESCRIPTION_KEYS = frozenset({"paths", "unreadable", "shard", "dim"})
"""Keys of the JSON file in every version."""

NOT_SHARED = frozenset({"paths", "unreadable", "count", "files", "listing"})
"""Keys that may differ between shards, or that `merge_shards` compares separately."""

BLOCK_ROWS = 65536
"""Number of rows that `merge_shards` copies at a time; arbitrary."""


@dataclass(frozen=True)
class Shard:
    """One of the parts that a run is split into.

    Attributes:
        number: number of the shard, from 1.
        count: number of shards.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parses a shard.

        Args:
            text: NUMBER/COUNT, such as ``3/64``.

        Raises:
            GlamError: the text has another form, or the number is not from 1 to the count.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise GlamError(f"{text!r} is not a shard. Write NUMBER/COUNT, such as 3/64.")
        return cls(int(number), int(count))

    def indices(self, total: int) -> range:
        """Returns the consecutive indices of this shard; each index belongs to exactly one shard.

        Args:
            total: number of images in all shards.
        """
        return range((self.number - 1) * total // self.count, self.number * total // self.count)


def listing_of(paths: Iterable[str]) -> dict[str, Any]:
    """Returns a checksum of the images of a run, which its shards store to detect that the images changed.

    Args:
        paths: paths of the images in all shards, in order.

    Returns:
        ``total``, the number of paths, and ``digest``, the BLAKE2b-128 checksum of the paths, each followed by a zero
        byte.
    """
    total, digest = 0, hashlib.blake2b(digest_size=16)
    for path in paths:
        total += 1
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
    return {"total": total, "digest": digest.hexdigest()}


def check_descriptor_output(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Checks that a descriptor file and its JSON file can be written, see `glam.output.check_output`.

    Args:
        out: safetensors file to write.
        inputs: files and folders that the command reads.

    Raises:
        GlamError: one of the two cannot be written, is an input, or would replace a file of another kind.
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
    """Writes the descriptors of a stream to a descriptor file and its JSON file, atomically.

    Args:
        out: safetensors file to write; its folder is created.
        stream: one result per path, in any order.
        paths: names of the images, by position in the stream.
        dim: length of a descriptor.
        facts: metadata for both files, as JSON values.
        times: collects the seconds of the stage ``write``; None to discard them.
        files: hash, bytes, time in ns, width, and height of each image, by position in the stream; read after the
            stream ends. None to leave them out.

    Returns:
        The unreadable images, {path: reason}.

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
    """Merges all shards of a run into one descriptor file.

    Args:
        out: safetensors file to write.
        shards: all shards of the run, 1/n to n/n, in any order.

    Returns:
        Number of rows of the merged file.

    Raises:
        GlamError: a file is missing or not a shard, the files are not all shards of one run, or ``out`` is one of them
            or cannot be written.
    """
    check_descriptor_output(out, [file for path in shards for file in (path, path.with_suffix(".json"))])
    parts = sorted(((path, read_metadata(path)) for path in shards), key=lambda part: _shard(part[0], part[1]).number)
    facts = [_facts(metadata) for _, metadata in parts]
    counts = {_shard(path, metadata).count for path, metadata in parts}
    numbers = [_shard(path, metadata).number for path, metadata in parts]
    if len(counts) != 1 or numbers != list(range(1, counts.pop() + 1)):
        found = ", ".join(metadata["shard"] for _, metadata in parts)
        raise GlamError(f"These are not all shards of one run: {found}. Pass each shard of the run once.")
    paths = [path for _, metadata in parts for path in metadata["paths"]]
    _check_listings(parts, paths)
    for (path, _), part_facts in zip(parts, facts, strict=True):
        for name, value in facts[0].items():
            if name != "shard" and part_facts.get(name) != value:
                raise GlamError(
                    f"{path}: {name} is {part_facts.get(name)!r}, but {value!r} in shard 1. Pass shards of one run."
                )
    unreadable = {path: why for _, metadata in parts for path, why in metadata["unreadable"].items()}
    have_files = all("files" in metadata for _, metadata in parts)
    files = [file for _, metadata in parts for file in metadata["files"]] if have_files else None
    with _open_writer(out, len(paths), facts[0]["dim"], {**facts[0], "shard": None}) as writer:
        first_row = 0
        for path, metadata in parts:
            descriptors = map_descriptors(path)
            if len(descriptors) != len(metadata["paths"]):
                raise GlamError(
                    f"{path} has {len(descriptors)} rows, but its JSON file has {len(metadata['paths'])} paths. "
                    "Copy both files again, or describe the shard again."
                )
            for block_start in range(0, len(descriptors), BLOCK_ROWS):
                block = descriptors[block_start : block_start + BLOCK_ROWS]
                writer.descriptors[first_row + block_start : first_row + block_start + len(block)] = block
            first_row += len(descriptors)
        writer.finish(paths, unreadable, files)
    return len(paths)


def map_descriptors(path: Path) -> NDArray[np.float32]:
    """Memory-maps the descriptors of a descriptor file.

    Args:
        path: safetensors file that `write_descriptors` wrote.

    Returns:
        (n, dim), float32, read-only; rows of unreadable images are NaN.

    Raises:
        GlamError: the file is not a descriptor file.
    """
    try:
        entry = read_header(path)[0]["descriptors"]
        if entry.dtype != "F32" or len(entry.shape) != 2:
            raise ValueError(f"the array has type {entry.dtype} and shape {entry.shape}")
        descriptors: NDArray[np.float32] = map_tensor(path, entry, "r")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GlamError(
            f"{path}: not a file of descriptors. Choose one that `glam describe` wrote. ({error})"
        ) from error
    return descriptors


@dataclass(frozen=True)
class _Writer:
    """Writes both files to their temporary paths.

    Attributes:
        descriptors: memory-mapped array to fill, (n, dim), float32.
        description: temporary path of the JSON file.
        facts: metadata for both files, as JSON values.
    """

    descriptors: NDArray[np.float32]
    description: Path
    facts: Mapping[str, Any]

    def finish(
        self, paths: Sequence[str], unreadable: Mapping[str, str], files: Sequence[Sequence[str | int]] | None
    ) -> None:
        """Flushes the descriptors and writes the JSON file."""
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
    """Creates both files at temporary paths, and renames them if no error occurs inside the block, JSON file first."""
    facts = {**facts, "dim": dim, "count": count}
    with write_output(out) as unfinished, write_output(_description_of(out)) as description:
        array = create_tensor_file(unfinished, "descriptors", (count, dim), {"glam": json.dumps(facts)})
        yield _Writer(array, description, facts)


def _description_of(out: Path) -> Path:
    if out.suffix != SUFFIX:
        raise GlamError(f"{out} does not end in {SUFFIX}. Choose a name that does.")
    return out.with_suffix(".json")


def _is_descriptor_file(path: Path) -> bool:
    entries, metadata = read_header(path)
    return "descriptors" in entries and "glam" in metadata


DESCRIPTORS = OutputKind("a file of descriptors that `glam describe` wrote", _is_descriptor_file)
DESCRIPTION = OutputKind("the JSON file of a file of descriptors", partial(has_json_keys, keys=DESCRIPTION_KEYS))


def read_metadata(path: Path) -> dict[str, Any]:
    """Reads the JSON file of a descriptor file.

    Args:
        path: the safetensors file; the JSON file has the same name with the suffix ``.json``.

    Returns:
        Content of the JSON file, see the top of this module.

    Raises:
        GlamError: the JSON file is missing, or `glam describe` did not write it.
    """
    try:
        metadata: dict[str, Any] = parse_json(path.with_suffix(".json").read_bytes())
    except (OSError, ValueError) as error:
        description = path.with_suffix(".json")
        raise GlamError(
            f"{description} cannot be read ({error}). Copy it from where `glam describe` wrote {path.name}."
        ) from error
    if not isinstance(metadata, dict) or not metadata.keys() >= DESCRIPTION_KEYS:
        raise GlamError(
            f"{path.with_suffix('.json')} lacks the paths of descriptors. Choose files that `glam describe` wrote."
        )
    return metadata


def _format_json(facts: Mapping[str, Any], columns: Mapping[str, Sequence[object]]) -> str:
    """Formats a JSON object with one line per fact, and one per entry of a column."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    for name, column in columns.items():
        entries = ",\n".join(f"  {json.dumps(entry)}" for entry in column)
        lines.append(f" {json.dumps(name)}: [\n{entries}\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in NOT_SHARED}


def _check_listings(parts: Sequence[tuple[Path, Mapping[str, Any]]], paths: Sequence[str]) -> None:
    """Checks that all shards come from the same list of images.

    Args:
        parts: path and metadata of each shard, in order. Files of earlier versions have no listing; for these, the
            number of rows is checked, and that no path occurs twice.
        paths: paths of the images in all shards.

    Raises:
        GlamError: the list of images changed between shards.
    """
    noted = [(path, metadata["listing"]) for path, metadata in parts if "listing" in metadata]
    for path, listing in noted[1:]:
        first_path, first = noted[0]
        if listing != first:
            totals = first["total"], listing["total"]
            difference = (
                f"{first_path} comes from a list of {totals[0]:,} images, and {path} from one of {totals[1]:,}"
                if totals[0] != totals[1]
                else f"{first_path} and {path} come from lists with other names or in another order"
            )
            raise GlamError(
                f"The list of images changed between shards: {difference}. Describe all shards again from one list."
            )
    expected = listing_of(paths)
    for path, metadata in parts:
        listing = metadata.get("listing", expected)
        rows = len(_shard(path, metadata).indices(expected["total"]))
        if listing != expected or rows != len(metadata["paths"]):
            raise GlamError(
                f"{path}: the list of images changed between shards ({expected['total']} images in all shards). "
                "Describe all shards again from one list."
            )
    if len(set(paths)) < len(paths) and not any("listing" in metadata for _, metadata in parts):
        double = Counter(paths).most_common(1)[0][0]
        raise GlamError(f"{double} is in two shards, so the list of images changed. Describe all shards again.")


def _shard(path: Path, metadata: Mapping[str, Any]) -> Shard:
    if metadata["shard"] is None:
        raise GlamError(f"{path} is not a shard but the result of a full run. Pass shards only.")
    return Shard.parse(metadata["shard"])
