"""`sync`, `add`, and `remove`: update an index when files were added, changed, moved, or deleted.

    sync, add --make_plan--> images to move, describe, remove --> Writer --describe_into--> batches

A file whose size and modification time are unchanged is not opened. A new file is recognized as moved if its content is
that of an image whose own file is gone, or that was removed and not yet compacted away. Such an image keeps its id and
its descriptor.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from glam.datasets.collection import NOTHING_SKIPPED, Collection, ImageFile, LandmarkFrom, Skipped, is_utf8
from glam.datasets.scan import landmark_of
from glam.errors import GlamError, system_reason
from glam.images import open_regular_file
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.operations.build import (
    Failures,
    Unreadable,
    describe_into,
    is_same_folder,
    other_folder,
    record_source,
    unique_by_path,
)
from glam.index.operations.image_files import (
    NO_LONGER_A_FILE,
    metadata_json,
    read_facts,
    read_facts_or_raise,
    size_and_time,
)
from glam.index.operations.relocate import has_moved_to
from glam.index.storage.records import FileFacts, StoredImage
from glam.index.storage.source_config import SourceConfig
from glam.index.writer import Writer, open_writer
from glam.progress import Progress, no_progress

if TYPE_CHECKING:
    from glam.model import Model


@dataclass(frozen=True)
class SyncReport:
    """The result of `sync` or `add`, in numbers of images.

    Attributes:
        added: new images that were described.
        changed: images whose files have new content, which were described again.
        moved: images that were found at another path, or that had been removed and came back; not described again.
        removed: images whose files are gone.
        unchanged: images that stayed as they were.
        unreadable: path and reason of each file that could not be read in this run.
        inaccessible: path and reason of each file and folder that the system refused to open; what the index knows of
            them is kept.
        skipped: what the scan of the folder passed over.
    """

    added: int
    changed: int
    moved: int
    removed: int
    unchanged: int
    unreadable: Unreadable
    inaccessible: Unreadable = ()
    skipped: Skipped = NOTHING_SKIPPED


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


def sync(
    path: str | Path,
    collection: Collection,
    load: "Callable[[], Model]",
    *,
    progress: Progress = no_progress,
    limits: IndexLimits = DEFAULT_LIMITS,
) -> SyncReport:
    """Updates an index to match a collection: adds new images, updates changed and moved ones, and removes the others.

    A sync that was killed resumes when it is run again.

    Args:
        path: folder of the index.
        collection: the images that the index should hold; if its folder has moved, in the new place.
        load: loads the model of the index; called only if there are images to describe.
        progress: called with the number of images described and the number of images to describe.
        limits: limits of the index.

    Returns:
        What was changed, and which files could not be read.

    Raises:
        GlamError: there is no index, it belongs to another folder or model, another writer is active, or the disk is
            full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        files = unique_by_path(collection.images)
        stored = list(writer.catalog.stored_images())
        _follow_root(writer, collection.root.resolve(), stored)
        source, unlisted = SourceConfig.of(collection), collection.skipped.unlisted
        if _says_nothing_new(source, writer.config.source):
            files = _as_stored(files, stored)
        record_source(writer, source)
        plan = make_plan(stored, collection.root, files, complete=True, unlisted=unlisted)
        _forget_unreadable(writer, {file.path for file in files}, unlisted)
        report = _apply(plan, writer, collection.root, load, progress)
        return replace(report, skipped=collection.skipped)


def add(
    path: str | Path,
    images: Sequence[str | Path],
    load: "Callable[[], Model]",
    *,
    progress: Progress = no_progress,
    limits: IndexLimits = DEFAULT_LIMITS,
) -> SyncReport:
    """Adds images from the root folder of the index. Images whose files have changed are described again.

    The folder that holds an image names its landmark if it did so when the index was built.

    Args:
        path: folder of the index.
        images: paths of image files.
        load: loads the model of the index; called only if there are images to describe.
        progress: called with the number of images described and the number of images to describe.
        limits: limits of the index.

    Returns:
        What was changed, and which files could not be read.

    Raises:
        GlamError: there is no index, it belongs to another model, an image does not exist or is outside the root
            folder, another writer is active, or the disk is full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        root = Path(writer.config.root)
        stored = list(writer.catalog.stored_images())
        known = {image.facts.path: image.facts for image in stored if image.present}
        source = writer.config.source
        landmark_from = "folder" if source is None else source.landmark_from
        files = unique_by_path(_image_file(Path(image), root, known, landmark_from) for image in images)
        return _apply(make_plan(stored, root, files, complete=False), writer, root, load, progress)


def remove(path: str | Path, images: Sequence[str | Path], *, limits: IndexLimits = DEFAULT_LIMITS) -> int:
    """Removes images from the index in one transaction. Their files stay on disk.

    Args:
        path: folder of the index.
        images: paths relative to the root of the index, or paths of files and folders on disk. A folder removes all
            images in it and in its subfolders.
        limits: limits of the index.

    Returns:
        The number of images removed.

    Raises:
        GlamError: there is no index, another writer is active, or one of ``images`` is not in the index; in that case
            nothing is removed.
    """
    with open_writer(Path(path), limits=limits) as writer:
        root = Path(writer.config.root)
        gone: set[int] = set()
        for image in images:
            found = [image_id for name in _names(str(image), root) for image_id in writer.catalog.ids_below(name)]
            if not found:
                raise GlamError(f"{image} is not in {path}, so nothing was removed. Check the path, and try again.")
            gone.update(found)
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.remove(gone)
    return len(gone)


def make_plan(
    stored: Sequence[StoredImage],
    root: Path,
    files: Sequence[ImageFile],
    *,
    complete: bool,
    unlisted: Unreadable = (),
) -> Plan:
    """Compares an index with image files.

    Args:
        stored: all images in the catalog, including removed ones.
        root: folder that the paths are relative to.
        files: image files, with distinct paths.
        complete: whether ``files`` are all images that the index should hold, so that the others are to be removed.
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
        try:
            facts = None if old is None else _same_content(old.facts, root, file)
        except OSError as error:
            if error.errno not in NO_LONGER_A_FILE:
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
        kept = {path for path in present if _is_below(path, unlisted)}
        plan.unchanged += len(kept)
        present = {path: image for path, image in present.items() if path not in kept}
        plan.gone = {image.image_id for image in present.values()}
        free.update((image.image_id, image) for image in present.values())
    _find_moved(plan, free, root, unknown)
    return plan


def _same_content(old: FileFacts, root: Path, file: ImageFile) -> FileFacts | None:
    """The current facts of a file whose content is unchanged; None if it has changed or the file is gone.

    Raises:
        OSError: the file cannot be read; it is gone if the number of the error is in `NO_LONGER_A_FILE`.
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


def _is_below(path: str, folders: Unreadable) -> bool:
    """Whether a path is in one of the folders, which are given with reasons, or in one of their sub-folders."""
    return any(folder == "." or path.startswith(f"{folder}/") for folder, _ in folders)


def _find_moved(plan: Plan, free: dict[int, StoredImage], root: Path, unknown: Sequence[ImageFile]) -> None:
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
        plan.moved[same.pop()] = facts
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


def _image_file(image: Path, root: Path, known: dict[str, FileFacts], landmark_from: LandmarkFrom) -> ImageFile:
    """The path of a file as an image of the index, with its landmark and metadata."""
    file = image.parent.resolve() / image.name
    if not file.is_file():
        raise GlamError(f"{image}: no such file. Check the path.")
    root = root.resolve()
    if not file.is_relative_to(root):
        raise GlamError(f"{image} is outside {root}, the root folder of the index. Move or copy it there first.")
    path = file.relative_to(root).as_posix()
    if path in known:
        return _labeled(ImageFile(path), known[path])
    return ImageFile(path, landmark_of(path, landmark_from))


def _labeled(file: ImageFile, facts: FileFacts) -> ImageFile:
    """A file with the landmark and metadata that the catalog has for it."""
    return file._replace(landmark=facts.landmark, metadata=json.loads(facts.metadata))


def _says_nothing_new(source: SourceConfig | None, stored: SourceConfig | None) -> bool:
    """Whether a source names no landmarks, as when the index was built, so that those of the catalog are kept."""
    return source is not None and stored is not None and source.landmark_from == stored.landmark_from == "none"


def _as_stored(files: Sequence[ImageFile], stored: Sequence[StoredImage]) -> list[ImageFile]:
    """The files with the landmarks and metadata that the catalog has for their paths."""
    known = {image.facts.path: image.facts for image in stored if image.present}
    return [_labeled(file, known[file.path]) if file.path in known else file for file in files]


def _follow_root(writer: Writer, root: Path, stored: Sequence[StoredImage]) -> None:
    """Records the new root of an index whose folder has moved: the former root is gone, and its images are in this one.

    Raises:
        GlamError: the index is of another folder.
    """
    former = writer.config.root
    if is_same_folder(former, str(root)):
        return
    if Path(former).exists() or not has_moved_to(stored, root):
        raise GlamError(other_folder(writer.path, former, str(root)))
    writer.begin_changes()
    with writer.catalog.transaction():
        writer.catalog.set_config(replace(writer.config, root=str(root)))


def _forget_unreadable(writer: Writer, paths: Set[str], unlisted: Unreadable) -> None:
    """Deletes files that no longer exist from the list of unreadable files."""
    gone = [path for path, _ in writer.catalog.unreadable() if path not in paths and not _is_below(path, unlisted)]
    if gone:
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.forget_unreadable(gone)


def _apply(plan: Plan, writer: Writer, root: Path, load: "Callable[[], Model]", progress: Progress) -> SyncReport:
    """Makes the planned changes: removes and moves images in one transaction, then describes images in batches."""
    catalog = writer.catalog
    if plan.facts or plan.moved or plan.gone:
        writer.begin_changes()
        with catalog.transaction():
            catalog.remove(plan.gone)
            catalog.update_files([*plan.facts.items(), *plan.moved.items()])
    failures = Failures()
    if plan.describe:
        config, model = writer.config, load()
        config.check_model(writer.path, model)
        settings = replace(model.settings(), size=config.size, scales=config.scales)
        total = len(plan.describe)
        failures = describe_into(writer, root, plan.describe, model, settings, lambda done: progress(done, total))
    failed = {path for path, _ in failures.unreadable + failures.inaccessible}
    lost = plan.replaced.keys() & {path for path, _ in failures.unreadable}  # their new content is not an image
    changed = len(plan.replaced.keys() - failed)
    return SyncReport(
        added=len(plan.describe) - len(failed) - changed,
        changed=changed,
        moved=len(plan.moved),
        removed=len(plan.gone) + len(lost),
        unchanged=plan.unchanged + len(plan.replaced.keys() & failed) - len(lost),
        unreadable=failures.unreadable,
        inaccessible=(*plan.inaccessible, *failures.inaccessible),
    )


def _names(image: str, root: Path) -> list[str]:
    """The paths in the index that ``image`` may mean: itself, and its path relative to the root."""
    file = Path(image).parent.resolve() / Path(image).name
    return [image.rstrip("/"), *([file.relative_to(root).as_posix()] if file.is_relative_to(root) else [])]
