"""Cache of the search structure in the folder `search/` of an index. It is safe to delete at any time.

    Writer --update--> search/structure-000001.faiss, ids-000001.npy, list.json --open_cached--> Index

`list.json` names the current structure file and its file of image ids, with their digests. Row i of the structure
belongs to the i-th of these ids. When an index opens, images added since are added to the structure in memory, and
removed images are masked.
"""

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.atomic_file import flush, make_folder
from glam.errors import GlamError
from glam.index.ann import DescriptorSource, Structure, build_structure, choose_kind, read_structure
from glam.index.ann.exact import Exact
from glam.index.limits import IndexLimits
from glam.index.storage.catalog import Catalog
from glam.index.storage.checks import SEARCH_FOLDER
from glam.index.storage.checksums import atomic_write_bytes, digest_file
from glam.index.storage.records import IndexConfig
from glam.index.storage.snapshot import Snapshot, take_snapshot
from glam.index.types import ImageIds
from glam.strict_json import from_values, parse_json

FOLDER = SEARCH_FOLDER
LIST = "list.json"

NAMES = re.compile(r"structure-\d+\.faiss ids-\d+\.npy")
"""Names of the two files of a saved structure."""

TRIALS = 16
"""Descriptors that a saved structure must find when it is opened (arbitrary): a few milliseconds."""

FOUND = 0.999
"""Lowest score of an image as the best result for its own descriptor, up to rounding."""


@dataclass(frozen=True)
class SavedStructure:
    """The saved structure that `list.json` names.

    Attributes:
        structure_file: path of the structure.
        ids_file: path of the image ids of its rows, an (n,) int64 array in NumPy format.
        kind: kind of the structure, one of `glam.index.ann.KINDS`.
        digests: digest of each of the two files by its name.
    """

    structure_file: Path
    ids_file: Path
    kind: str
    digests: dict[str, str]

    def is_sound(self) -> bool:
        """Whether both files match their digests.

        Raises:
            OSError: a file cannot be read.
        """
        return all(digest_file(file) == self.digests[file.name] for file in (self.structure_file, self.ids_file))


@dataclass(frozen=True)
class _List:
    """The content of `list.json`: names of the two files and their digests; see `SavedStructure`."""

    kind: str
    structure: str
    ids: str
    digests: dict[str, str]


def read_list(index: Path) -> SavedStructure | None:
    """Reads `list.json`.

    Args:
        index: folder of the index.

    Returns:
        The saved structure; None if there is none.

    Raises:
        GlamError: `list.json` is damaged.
    """
    file = index / FOLDER / LIST
    try:
        found = from_values(_List, parse_json(file.read_bytes()))
        if not NAMES.fullmatch(f"{found.structure} {found.ids}") or found.digests.keys() != {
            found.structure,
            found.ids,
        }:
            raise ValueError("it names other files")
        return SavedStructure(file.parent / found.structure, file.parent / found.ids, found.kind, found.digests)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise GlamError(f"{file} is damaged. Delete {file.parent}; it is a cache and will be rebuilt.") from error


def kind_for(config: IndexConfig, count: int, limits: IndexLimits) -> str:
    """The kind of structure for an index.

    Args:
        config: configuration of the index, which may name a kind.
        count: number of images.
        limits: the limit `IndexLimits.exact_below` applies.
    """
    return Exact.kind if count < limits.exact_below else config.structure or choose_kind(count, config.dim)


def open_cached(index: Path, snapshot: Snapshot) -> tuple[Structure, ImageIds] | None:
    """Opens the saved structure, and adds the images that it lacks in memory.

    Args:
        index: folder of the index.
        snapshot: the present images.

    Returns:
        The structure and the image_id of each of its rows, (n,) int64, which may include removed images. None if no
        structure is saved or it is unusable; the caller then has to build one. It is unusable if its files do not match
        their digests, or if it does not find the descriptors of this index.
    """
    try:
        saved = read_list(index)
        if saved is None or not saved.is_sound():
            return None
        covered = _read_ids(saved.ids_file)
        image_ids = np.concatenate([covered, np.setdiff1d(snapshot.image_ids, covered, assume_unique=True)])
        descriptors = snapshot.descriptors_of(image_ids)
        structure = read_structure(saved.structure_file, descriptors)
        if len(structure) != len(covered) or not _finds(structure, descriptors, len(covered)):
            return None
        if len(image_ids) > len(covered):
            structure.add(descriptors[len(covered) : len(image_ids)])
    except Exception:  # noqa: BLE001  FAISS raises anything for a file that it did not write; the cache is built again
        return None
    return structure, image_ids


def open_or_build(
    index: Path, snapshot: Snapshot, config: IndexConfig, limits: IndexLimits
) -> tuple[Structure, ImageIds]:
    """Opens the saved structure, or builds one in memory if there is none.

    Args:
        index: folder of the index.
        snapshot: the present images.
        config: configuration of the index, which may name a kind of structure.
        limits: limits of the index.

    Returns:
        The structure and the image_id of each of its rows, (n,) int64; see `open_cached`.
    """
    return open_cached(index, snapshot) or _build(snapshot, kind_for(config, len(snapshot.image_ids), limits))


def update(index: Path, catalog: Catalog, limits: IndexLimits) -> None:
    """Saves a structure of all present images if the saved one is out of date.

    Args:
        index: folder of the index.
        catalog: its catalog, whose configuration may name a kind of structure.
        limits: how many images may have been added or removed before a saved structure is out of date.

    Raises:
        OSError: the files cannot be written.
        RuntimeError: FAISS cannot build or write the structure.
        GlamError: a segment is missing or too short.
    """
    kind = kind_for(catalog.config, len(catalog), limits)
    folder = index / FOLDER
    if (kind == Exact.kind and not limits.save_exact) or catalog.config.milvus is not None:
        _clear(folder, keep=())
        return
    snapshot = take_snapshot(index, catalog)
    covered = _covered(index, kind)
    if covered is not None and _is_near(covered, snapshot.image_ids, limits):
        return
    is_old = covered is None or _removed(covered, snapshot.image_ids) > limits.removed_share
    found = None if is_old else open_cached(index, snapshot)
    _write(folder, *(found or _build(snapshot, kind)))


def delete_unlisted(index: Path) -> None:
    """Deletes the files of killed writers, which `list.json` does not name; all files if `list.json` is damaged.

    Args:
        index: folder of the index.
    """
    try:
        found = read_list(index)
    except GlamError:
        found = None
    _clear(index / FOLDER, keep={LIST, *found.digests} if found else ())


def _build(snapshot: Snapshot, kind: str) -> tuple[Structure, ImageIds]:
    return build_structure(snapshot.descriptors_of(snapshot.image_ids), kind), snapshot.image_ids


def _covered(index: Path, kind: str) -> ImageIds | None:
    """Image ids in the saved structure; None if no usable structure of this kind is saved."""
    try:
        saved = read_list(index)
        return _read_ids(saved.ids_file) if saved is not None and saved.kind == kind and saved.is_sound() else None
    except (GlamError, OSError, ValueError):
        return None


def _read_ids(file: Path) -> ImageIds:
    """Reads image ids (n,).

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds anything else, or an id twice.
    """
    try:
        image_ids: ImageIds = np.load(file)
    except OSError:
        raise
    except Exception as error:  # NumPy raises anything for a header that it did not write, such as TokenError
        raise ValueError(f"{file} holds no ids") from error
    if image_ids.dtype != np.int64 or image_ids.ndim != 1 or len(np.unique(image_ids)) < len(image_ids):
        raise ValueError(f"{file} holds no ids")
    return image_ids


def _finds(structure: Structure, descriptors: DescriptorSource, count: int) -> bool:
    """Whether most of some descriptors among the first ``count``, which the structure holds, find themselves."""
    rows = np.unique(np.linspace(0, max(count - 1, 0), min(TRIALS, count)).astype(np.int64))
    queries = np.ascontiguousarray(descriptors[rows])
    queries = queries[queries.any(axis=1)]  # those of removed images are zeros
    if not len(queries):
        return True
    scores, found = structure.search(queries, 1)
    return bool(((found[:, 0] >= 0) & (found[:, 0] < count) & (scores[:, 0] >= FOUND)).mean() > 0.5)


def _is_near(covered: ImageIds, present: ImageIds, limits: IndexLimits) -> bool:
    added = len(present) - np.isin(present, covered, assume_unique=True).sum()
    return bool(added <= limits.added_in_memory and _removed(covered, present) <= limits.removed_share)


def _removed(covered: ImageIds, present: ImageIds) -> float:
    """Share of the covered images that have been removed."""
    return 1 - float(np.isin(covered, present, assume_unique=True).mean()) if len(covered) else 0.0


def _write(folder: Path, structure: Structure, image_ids: ImageIds) -> None:
    """Writes a structure under new names, then replaces the list atomically: a reader sees the old or the new one."""
    make_folder(folder, on_disk=True)
    number = 1 + max((int(file.stem[4:]) for file in folder.glob("ids-*.npy") if file.stem[4:].isdecimal()), default=0)
    files = folder / f"structure-{number:06d}.faiss", folder / f"ids-{number:06d}.npy"
    structure.write(files[0])
    np.save(files[1], image_ids)
    flush(files[1])
    flush(folder)
    digests = {file.name: digest_file(file) for file in files}
    values = {"kind": structure.kind, "structure": files[0].name, "ids": files[1].name, "digests": digests}
    atomic_write_bytes(folder / LIST, (json.dumps(values, indent=2) + "\n").encode())
    _clear(folder, keep={LIST, *digests})


def _clear(folder: Path, keep: Container[str]) -> None:
    """Deletes the files of the folder whose names are not in ``keep``."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.name not in keep:
            file.unlink()
    flush(folder)
