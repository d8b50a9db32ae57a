"""The folder search/: what is derived from the descriptors to search them. It may be deleted at any time.

    Writer --update--> search/structure-000001, ids-000001.npy, list.json --open_cached--> Index

The list names the two files of the last structure, with their digests. A structure covers the images whose ids are in
the other file, row by row; images added since are added to it in memory, removed ones are masked.
"""

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glam.atomic_file import flush
from glam.errors import GlamError
from glam.index.ann import Structure, build_structure, choose_kind, read_structure
from glam.index.ann.exact import Exact
from glam.index.limits import IndexLimits
from glam.index.storage.catalog import Catalog, IndexConfig
from glam.index.storage.checksums import atomic_write_bytes, digest_file
from glam.index.storage.snapshot import Snapshot, take_snapshot
from glam.index.types import ImageIds

FOLDER = "search"
LIST = "list.json"


@dataclass(frozen=True)
class SavedStructure:
    """What the list names.

    Attributes:
        structure_file: file of the structure.
        ids_file: file of the image ids it covers, in the order of its rows.
        kind: of the structure.
        digests: of both files, by name.
    """

    structure_file: Path
    ids_file: Path
    kind: str
    digests: dict[str, str]


def read_list(index: Path) -> SavedStructure | None:
    """What is saved in the index in the folder ``index``; None where nothing is.

    Raises:
        GlamError: the list is damaged.
    """
    file = index / FOLDER / LIST
    try:
        values: dict[str, Any] = json.loads(file.read_bytes())
        folder, digests = file.parent, dict(values["digests"])
        return SavedStructure(folder / values["structure"], folder / values["ids"], str(values["kind"]), digests)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GlamError(f"{file}: damaged; delete the folder {FOLDER}, it is made again") from error


def kind_for(config: IndexConfig, count: int, limits: IndexLimits) -> str:
    """The kind of structure that ``count`` images of an index want."""
    return Exact.kind if count < limits.exact_below else config.structure or choose_kind(count, config.dim)


def open_cached(index: Path, snapshot: Snapshot) -> tuple[Structure, ImageIds] | None:
    """The saved structure with all present images in it, and the image id of each of its rows.

    Args:
        index: its folder.
        snapshot: the images; those that the structure does not cover are added to it in memory.

    Returns:
        None where nothing is saved or it cannot be used; then one has to be built.
    """
    try:
        saved = read_list(index)
        if saved is None:
            return None
        covered: ImageIds = np.load(saved.ids_file)
        image_ids = np.concatenate([covered, np.setdiff1d(snapshot.image_ids, covered, assume_unique=True)])
        descriptors = snapshot.descriptors_of(image_ids)
        structure = read_structure(saved.structure_file, descriptors)
        if len(structure) != len(covered):
            return None
        if len(image_ids) > len(covered):
            structure.add(descriptors[len(covered) : len(image_ids)])
    except (GlamError, OSError, ValueError):
        return None
    return structure, image_ids


def open_or_build(
    index: Path, snapshot: Snapshot, config: IndexConfig, limits: IndexLimits
) -> tuple[Structure, ImageIds]:
    """The saved structure as `open_cached` gives it, or else a new one in memory: it, and the image id of each row."""
    return open_cached(index, snapshot) or _build(snapshot, kind_for(config, len(snapshot.image_ids), limits))


def update(index: Path, catalog: Catalog, limits: IndexLimits) -> None:
    """Saves a structure of all present images where the one that is saved has fallen behind.

    Args:
        index: its folder.
        catalog: of the index; it knows what kind was asked for.
        limits: say when a saved structure has fallen behind.

    Raises:
        OSError, RuntimeError, GlamError: it cannot be built or written.
    """
    wanted = kind_for(catalog.config, len(catalog), limits)
    folder = index / FOLDER
    if (wanted == Exact.kind and not limits.save_exact) or catalog.config.milvus is not None:
        _clear(folder, keep=())
        return
    snapshot = take_snapshot(index, catalog)
    covered = _covered(index, wanted)
    if covered is not None and _is_near(covered, snapshot.image_ids, limits):
        return
    is_old = covered is None or _removed(covered, snapshot.image_ids) > limits.removed_share
    found = None if is_old else open_cached(index, snapshot)
    _write(folder, *(found or _build(snapshot, wanted)))


def delete_unlisted(index: Path) -> None:
    """Deletes what the list does not name: the files of a writer that was killed. A damaged list names nothing."""
    try:
        found = read_list(index)
    except GlamError:
        found = None
    _clear(index / FOLDER, keep={LIST, *found.digests} if found else ())


def _build(snapshot: Snapshot, kind: str) -> tuple[Structure, ImageIds]:
    return build_structure(snapshot.descriptors_of(snapshot.image_ids), kind), snapshot.image_ids


def _covered(index: Path, kind: str) -> ImageIds | None:
    """Image ids that the saved structure covers; None where there is none of this kind that can be used."""
    try:
        saved = read_list(index)
        return None if saved is None or saved.kind != kind else np.load(saved.ids_file)
    except (GlamError, OSError, ValueError):
        return None


def _is_near(covered: ImageIds, present: ImageIds, limits: IndexLimits) -> bool:
    added = len(present) - np.isin(present, covered, assume_unique=True).sum()
    return bool(added <= limits.added_in_memory and _removed(covered, present) <= limits.removed_share)


def _removed(covered: ImageIds, present: ImageIds) -> float:
    """Share of the covered images that are present no more."""
    return 1 - float(np.isin(covered, present, assume_unique=True).mean()) if len(covered) else 0.0


def _write(folder: Path, structure: Structure, image_ids: ImageIds) -> None:
    """Writes a structure under new names, then the list that names it: a reader sees the old or the new."""
    folder.mkdir(exist_ok=True)
    number = 1 + max((int(file.stem.rpartition("-")[2]) for file in folder.glob("ids-*.npy")), default=0)
    files = folder / f"structure-{number:06d}.faiss", folder / f"ids-{number:06d}.npy"
    structure.write(files[0])
    np.save(files[1], image_ids)
    flush(files[1])
    digests = {file.name: digest_file(file) for file in files}
    values = {"kind": structure.kind, "structure": files[0].name, "ids": files[1].name, "digests": digests}
    atomic_write_bytes(folder / LIST, (json.dumps(values, indent=2) + "\n").encode())
    _clear(folder, keep={LIST, *digests})


def _clear(folder: Path, keep: Container[str]) -> None:
    """Deletes the files of the folder that are not to be kept."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.name not in keep:
            file.unlink()
    flush(folder)
