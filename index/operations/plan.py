"""Plan of a sync: compares the images in the catalog with image files.

    sync, add --make_plan--> images that stay, move, go, and are to be described

A file whose size and modification time are unchanged is not opened.
"""

import json
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from glam.datasets.collection import ImageFile, is_utf8
from glam.errors import is_refusal, system_reason
from glam.images import open_regular_file
from glam.index.operations.describe import Unreadable
from glam.index.operations.image_files import (
    metadata_json,
    read_facts,
    read_facts_or_raise,
    size_and_time,
)
from glam.index.storage.records import FileFacts, StoredImage


@dataclass
class Plan:
    """The changes that bring an index up to date.

    Attributes:
        unchanged: number of images that keep their path and descriptor.
        facts: new file facts, by image id, of unchanged images whose landmark, metadata, or file time changed.
        moved: new file facts, by image id, of images that move to another path or come back after their removal.
        describe: images to describe.
        replaced: ids of present images that the images in ``describe`` replace, by path.
        gone: ids of present images whose content no longer exists.
        inaccessible: path and reason of each file or folder that could not be looked at; its images count as unchanged.
    """

    unchanged: int = 0
    facts: dict[int, FileFacts] = field(default_factory=dict)
    moved: dict[int, FileFacts] = field(default_factory=dict)
    describe: list[ImageFile] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    inaccessible: list[tuple[str, str]] = field(default_factory=list)


def make_plan(
    stored: Sequence[StoredImage],
    root: Path,
    files: Sequence[ImageFile],
    *,
    complete: bool,
    keep_names: bool,
    unlisted: Unreadable = (),
) -> Plan:
    """Compares an index with image files.

    Args:
        stored: all images in the catalog, including removed ones.
        root: folder that the paths are relative to.
        files: image files, with distinct paths.
        complete: whether ``files`` are all images that the index should hold, so that the others are to be removed.
        keep_names: whether images keep the landmark and metadata of the catalog, because the files do not say them.
        unlisted: path and reason of each folder that could not be listed; the images in it stay.

    Returns:
        The changes that bring the index up to date.
    """
    plan = Plan(inaccessible=list(unlisted))
    present = {image.facts.path: image for image in stored if image.present}
    free = {image.image_id: image for image in stored if not image.present}
    unknown: list[ImageFile] = []
    for file in files:
        old = present.pop(file.path, None)
        if old is not None and keep_names:
            file = with_names(file, old.facts)
        try:
            facts = None if old is None else _same_content(old.facts, root, file)
        except OSError as error:
            if is_refusal(error):
                plan.unchanged += 1
                plan.inaccessible.append((file.path, system_reason(error)))
                continue
            facts = None
        if old is not None and facts is not None:
            plan.unchanged += 1
            if facts != old.facts:
                plan.facts[old.image_id] = facts
            continue
        unknown.append(file)
        if old is not None:
            plan.replaced[file.path] = old.image_id
            free[old.image_id] = old
    if complete:
        kept = {path for path in present if is_below(path, unlisted)}
        plan.unchanged += len(kept)
        present = {path: image for path, image in present.items() if path not in kept}
        plan.gone = {image.image_id for image in present.values()}
        free.update((image.image_id, image) for image in present.values())
    _find_moved(plan, free, root, unknown, keep_names)
    return plan


def with_names(file: ImageFile, facts: FileFacts) -> ImageFile:
    """A file with the landmark and metadata that the catalog has for an image."""
    return file._replace(landmark=facts.landmark, metadata=json.loads(facts.metadata))


def _same_content(old: FileFacts, root: Path, file: ImageFile) -> FileFacts | None:
    """The current facts of a file whose content is unchanged; None if it has changed or the file is gone.

    Raises:
        OSError: the file cannot be read; it is gone unless this `is_refusal`.
    """
    now = size_and_time(root / file.path)
    if now is None:
        return None
    if now == (old.bytes, old.modified):
        return old._replace(landmark=file.landmark, metadata=metadata_json(file))
    if (
        not old.hash
    ):  # from schema version 1, which stored no hashes: unchanged if the file is older than its descriptor
        return read_facts_or_raise(root, file) if now[1] <= old.modified else None
    if now[0] != old.bytes:
        open_regular_file(root / file.path).close()  # raises if the file cannot be read just now
        return None
    facts = read_facts_or_raise(root, file)
    return facts if facts.hash == old.hash else None


def is_below(path: str, folders: Unreadable) -> bool:
    """Whether a path is in one of the folders, which are given with reasons, or in one of their sub-folders."""
    return any(folder == "." or path.startswith(f"{folder}/") for folder, _ in folders)


def _find_moved(
    plan: Plan, free: dict[int, StoredImage], root: Path, unknown: Sequence[ImageFile], keep_names: bool
) -> None:
    """Assigns to each unknown file an image in ``free`` that had its content; plans to describe the other files."""
    by_content: dict[tuple[int, str], list[int]] = defaultdict(list)
    for image in free.values():
        if image.facts.hash:
            by_content[image.facts.bytes, image.facts.hash].append(image.image_id)
    sizes = {size for size, _ in by_content}
    for file in unknown:
        facts = _facts_if_known_size(root, file, sizes) if is_utf8(file.path) else None
        same = by_content.get((facts.bytes, facts.hash)) if facts is not None else None
        if facts is None or not same:
            plan.describe.append(file)
            continue
        image_id = same.pop()
        names = free[image_id].facts
        plan.moved[image_id] = facts._replace(landmark=names.landmark, metadata=names.metadata) if keep_names else facts
        if file.path in plan.replaced:
            plan.gone.add(plan.replaced.pop(file.path))
    plan.gone -= plan.moved.keys()


def _facts_if_known_size(root: Path, file: ImageFile, sizes: Set[int]) -> FileFacts | None:
    """The facts of a file; None if its size is none of ``sizes``, or if it cannot be read."""
    try:
        now = size_and_time(root / file.path)
    except OSError:
        return None
    return read_facts(root, file) if now is not None and now[0] in sizes else None
