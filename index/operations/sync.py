"""Bringing an index up to date with its folder.

    sync, add --make_plan--> what moved, what is to be described, what is gone --> Writer --describe_into--> batches

A file of the same size and time as before is not opened. A new file with the content of an image that has lost its own,
because it moved or was removed and not yet compacted away, is that image, and is not described again.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from glam.datasets.collection import Collection, ImageFile
from glam.errors import GlamError
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.operations.build import Unreadable, describe_into, unique_by_path
from glam.index.operations.image_files import metadata_json, read_facts, size_and_time
from glam.index.storage.catalog import FileFacts, StoredImage
from glam.index.writer import Writer, open_writer
from glam.progress import Progress, no_progress

if TYPE_CHECKING:
    from glam.model import Model


@dataclass(frozen=True)
class SyncReport:
    """What a sync did.

    Attributes:
        added: images that were new, described and added.
        changed: images whose file had another content, described anew.
        moved: images whose content was known, under another path or as removed; not described again.
        removed: images whose file is gone.
        unchanged: images that stayed.
        unreadable: (path, reason) of each file that could not be read this time.
    """

    added: int
    changed: int
    moved: int
    removed: int
    unchanged: int
    unreadable: Unreadable


@dataclass
class Plan:
    """What is to be done to an index.

    Attributes:
        unchanged: how many images stay, with the same or with new facts.
        facts: new facts of images that keep their descriptor and path, by id.
        moved: new facts of images that come to another path or back, by id.
        describe: what is to be described.
        replaced: ids of the present images whose path these take, by path.
        gone: ids of the present images whose content is nowhere any more.
    """

    unchanged: int = 0
    facts: dict[int, FileFacts] = field(default_factory=dict)
    moved: dict[int, FileFacts] = field(default_factory=dict)
    describe: list[ImageFile] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)


def sync(
    path: str | Path,
    collection: Collection,
    load: "Callable[[], Model]",
    *,
    progress: Progress = no_progress,
    limits: IndexLimits = DEFAULT_LIMITS,
) -> SyncReport:
    """Makes an index hold the images of a collection: adds what is new, describes what changed, follows what moved and
    removes what is gone. Killed and run again, it goes on where it stopped.

    Args:
        path: folder of the index.
        collection: what its folder holds now; if that has moved, in its new place.
        load: opens the index's model; called when there is something to describe.
        progress: called with images described and images to describe.
        limits: sizes and times at which the index changes how it works.

    Raises:
        GlamError: there is no index, it is of another folder or model, another writer is at work, the disk is full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        files = unique_by_path(collection.images)
        _follow_root(writer, str(collection.root.resolve()), files)
        plan = make_plan(list(writer.catalog.stored_images()), collection.root, files, whole=True)
        _forget_unreadable(writer, {file.path for file in files})
        return _carry_out(plan, writer, collection.root, load, progress)


def add(
    path: str | Path,
    images: Sequence[str | Path],
    load: "Callable[[], Model]",
    *,
    progress: Progress = no_progress,
    limits: IndexLimits = DEFAULT_LIMITS,
) -> SyncReport:
    """Adds images that lie in the index's folder; one that changed since is described anew. The sub-folder that holds
    an image names its landmark.

    Args:
        path: folder of the index.
        images: files.
        load: opens the index's model; called when there is something to describe.
        progress: called with images described and images to describe.
        limits: sizes and times at which the index changes how it works.

    Raises:
        GlamError: as `sync`; or an image is not there or lies outside the index's folder.
    """
    with open_writer(Path(path), limits=limits) as writer:
        root = Path(writer.config.root)
        stored = list(writer.catalog.stored_images())
        known = {image.facts.path: image.facts for image in stored if image.present}
        files = unique_by_path(_image_file(Path(image), root, known) for image in images)
        return _carry_out(make_plan(stored, root, files, whole=False), writer, root, load, progress)


def remove(path: str | Path, images: Sequence[str | Path], *, limits: IndexLimits = DEFAULT_LIMITS) -> int:
    """Removes images, all of them or none.

    Args:
        path: folder of the index.
        images: each a path as the index has it, or a file or folder on disk; a folder stands for all images below it.
        limits: sizes and times at which the index changes how it works.

    Returns:
        How many images were removed.

    Raises:
        GlamError: there is no index, another writer is at work, or one of ``images`` is not in the index.
    """
    with open_writer(Path(path), limits=limits) as writer:
        root = Path(writer.config.root)
        gone: set[int] = set()
        for image in images:
            found = [image_id for name in _names(str(image), root) for image_id in writer.catalog.ids_below(name)]
            if not found:
                raise GlamError(f"{image} is not in {path}; nothing was removed")
            gone.update(found)
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.remove(gone)
    return len(gone)


def make_plan(stored: Sequence[StoredImage], root: Path, files: Sequence[ImageFile], *, whole: bool) -> Plan:
    """Compares what an index has with files.

    Args:
        stored: all images of the index.
        root: folder that the paths are relative to.
        files: image files.
        whole: whether they are all there should be; an image whose path is not among them is gone then.
    """
    plan = Plan()
    present = {image.facts.path: image for image in stored if image.present}
    free = {image.image_id: image for image in stored if not image.present}
    unknown: list[ImageFile] = []
    for file in files:
        was = present.pop(file.path, None)
        facts = None if was is None else _same_content(was.facts, root, file)
        if was is not None and facts is not None:
            plan.unchanged += 1
            if facts != was.facts:
                plan.facts[was.image_id] = facts
            continue
        unknown.append(file)
        if was is not None:
            plan.replaced[file.path] = was.image_id
            free[was.image_id] = was
    if whole:
        plan.gone = {image.image_id for image in present.values()}
        free.update((image.image_id, image) for image in present.values())
    _find_moved(plan, free, root, unknown)
    return plan


def _same_content(was: FileFacts, root: Path, file: ImageFile) -> FileFacts | None:
    """The facts of now of a file that has the content it had; None if it has another or is not there."""
    now = size_and_time(root / file.path)
    if now is None:
        return None
    if now == (was.bytes, was.modified):
        return was._replace(landmark=file.landmark, metadata=metadata_json(file))
    if not was.hash:  # of a version 1, which did not look at files: the same if it is older than its descriptor
        return read_facts(root, file) if now[1] <= was.modified else None
    if now[0] != was.bytes:
        return None
    facts = read_facts(root, file)
    return facts if facts is not None and facts.hash == was.hash else None


def _find_moved(plan: Plan, free: dict[int, StoredImage], root: Path, unknown: Sequence[ImageFile]) -> None:
    """Gives each unknown file the free image that had its content, and has the others described."""
    by_content: dict[tuple[int, str], list[int]] = defaultdict(list)
    for image in free.values():
        if image.facts.hash:
            by_content[image.facts.bytes, image.facts.hash].append(image.image_id)
    sizes = {size for size, _ in by_content}
    for file in unknown:
        now = size_and_time(root / file.path)
        facts = read_facts(root, file) if now is not None and now[0] in sizes else None
        same = by_content.get((facts.bytes, facts.hash)) if facts is not None else None
        if facts is None or not same:
            plan.describe.append(file)
            continue
        plan.moved[same.pop()] = facts
        if file.path in plan.replaced:
            plan.gone.add(plan.replaced.pop(file.path))
    plan.gone -= plan.moved.keys()


def _image_file(image: Path, root: Path, known: dict[str, FileFacts]) -> ImageFile:
    """The file as an image in the index's folder."""
    file = image.parent.resolve() / image.name
    if not file.is_file():
        raise GlamError(f"{image}: no such file")
    if not file.is_relative_to(root):
        raise GlamError(f"{image} lies outside {root}, the folder of the index")
    path = file.relative_to(root).as_posix()
    if path in known:
        return ImageFile(path, known[path].landmark, metadata=json.loads(known[path].metadata))
    landmark = file.parent.relative_to(root).as_posix()
    return ImageFile(path, "" if landmark == "." else landmark)


def _follow_root(writer: Writer, root: str, files: Sequence[ImageFile]) -> None:
    """Records the new root of an index whose folder has moved: the former root is gone, and images are in the new one.

    Raises:
        GlamError: the index is of another folder.
    """
    former = writer.config.root
    if former == root:
        return
    known = writer.catalog.paths()
    if Path(former).exists() or not any(file.path in known for file in files):
        raise GlamError(f"{writer.path} is an index of {former}, not of {root}. Sync with its own folder.")
    writer.begin_changes()
    with writer.catalog.transaction():
        writer.catalog.set_config(replace(writer.config, root=root))


def _forget_unreadable(writer: Writer, paths: Set[str]) -> None:
    """Takes files that are gone off the list of those that could not be read."""
    gone = [path for path, _ in writer.catalog.unreadable() if path not in paths]
    if gone:
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.forget_unreadable(gone)


def _carry_out(plan: Plan, writer: Writer, root: Path, load: "Callable[[], Model]", progress: Progress) -> SyncReport:
    catalog = writer.catalog
    if plan.facts or plan.moved or plan.gone:
        writer.begin_changes()
        with catalog.transaction():
            catalog.remove(plan.gone)
            catalog.update_files([*plan.facts.items(), *plan.moved.items()])
    unreadable: Unreadable = ()
    if plan.describe:
        config, model = writer.config, load()
        config.check_model(writer.path, model)
        settings = replace(model.settings(), size=config.size, scales=config.scales)
        total = len(plan.describe)
        unreadable = describe_into(writer, root, plan.describe, model, settings, lambda done: progress(done, total))
    changed = len(plan.replaced.keys() - {path for path, _ in unreadable})
    return SyncReport(
        added=len(plan.describe) - len(unreadable) - changed,
        changed=changed,
        moved=len(plan.moved),
        removed=len(plan.gone),
        unchanged=plan.unchanged,
        unreadable=unreadable,
    )


def _names(image: str, root: Path) -> list[str]:
    """Paths in the index that ``image`` may stand for."""
    file = Path(image).parent.resolve() / Path(image).name
    return [image.rstrip("/"), *([file.relative_to(root).as_posix()] if file.is_relative_to(root) else [])]
