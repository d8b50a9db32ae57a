"""`sync`, `add`, and `remove`: update an index when files were added, changed, moved, or deleted.

    sync, add --make_plan--> images to move, describe, remove --> Writer --describe_into--> batches

A new file is recognized as moved if its content is that of an image whose own file is gone, or that was removed and not
yet compacted away. Such an image keeps its id and its descriptor.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from glam.datasets.collection import (
    NOTHING_SKIPPED,
    Collection,
    ImageFile,
    LandmarkFrom,
    ScanOptions,
    Skipped,
    printable_path,
)
from glam.datasets.scan import landmark_of
from glam.datasets.scan_rules import ScanRules
from glam.errors import GlamError, system_reason
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.operations.build import other_folder, unique_by_path
from glam.index.operations.describe import Described, Unreadable, describe_into, refuse_names
from glam.index.operations.image_files import is_gone, is_same_path
from glam.index.operations.plan import Plan, is_below, make_plan, with_names
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
        keep_names = _says_nothing_new(source, writer.config.source)
        if source is not None:
            writer.change_config(source=source)
        plan = make_plan(stored, collection.root, files, complete=True, keep_names=keep_names, unlisted=unlisted)
        _forget_unreadable(writer, {printable_path(file.path) for file in files}, unlisted)
        report = _apply(plan, writer, collection.root, load, progress, must_exist=collection.is_list)
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
        GlamError: there is no index, it belongs to another model, an image does not exist, is outside the root folder,
            or is one that `sync` passes over, another writer is active, or the disk is full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        root = Path(writer.config.root)
        stored = list(writer.catalog.stored_images())
        known = {image.facts.path: image.facts for image in stored if image.present}
        source = writer.config.source
        landmark_from = "folder" if source is None else source.landmark_from
        files = unique_by_path(_image_file(Path(image), root, known, landmark_from) for image in images)
        _check_found_by_sync(root, files, source)
        plan = make_plan(stored, root, files, complete=False, keep_names=landmark_from in ("manifest", "none"))
        return _apply(plan, writer, root, load, progress, must_exist=True)


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


def _image_file(image: Path, root: Path, known: dict[str, FileFacts], landmark_from: LandmarkFrom) -> ImageFile:
    """The path of a file as an image of the index, with its landmark and metadata."""
    file = image.parent.resolve() / image.name
    try:
        is_file = file.is_file()
    except OSError as error:
        raise GlamError(
            f"{image} cannot be opened: {system_reason(error)}. Check the path and its permissions."
        ) from error
    if not is_file:
        what = "a folder; `glam index sync` adds its images" if file.is_dir() else "not a file"
        raise GlamError(f"{image}: {what if file.exists() else 'no such file'}. Check the path.")
    root = root.resolve()
    if not file.is_relative_to(root):
        raise GlamError(f"{image} is outside {root}, the root folder of the index. Move or copy it there first.")
    path = file.relative_to(root).as_posix()
    if path in known:
        return with_names(ImageFile(path), known[path])
    return ImageFile(path, landmark_of(path, landmark_from))


def _check_found_by_sync(root: Path, files: Sequence[ImageFile], source: SourceConfig | None) -> None:
    """Makes sure that the next sync of an index does not remove images that are added now.

    Raises:
        GlamError: a scan with the options of the index passes over one of the files.
    """
    rules = ScanRules(root, ScanOptions(within_root=True)) if source is None else source.rules(root)
    for file in files:
        if reason := rules.reason(file.path):
            raise GlamError(
                f"{root / file.path} cannot be added, because {reason} and `glam index sync` would remove it. "
                "Move or rename it, and try again."
            )


def _says_nothing_new(source: SourceConfig | None, stored: SourceConfig | None) -> bool:
    """Whether a source names no landmarks, as when the index was built, so that those of the catalog are kept."""
    return source is not None and stored is not None and source.landmark_from == stored.landmark_from == "none"


def _follow_root(writer: Writer, root: Path, stored: Sequence[StoredImage]) -> None:
    """Records the new root of an index whose folder has moved: the former root is gone, and its images are in this one.

    Raises:
        GlamError: the index is of another folder.
    """
    former = writer.config.root
    if is_same_path(former, root):
        return
    if not is_gone(Path(former)) or not has_moved_to(stored, root):
        raise GlamError(other_folder(writer.path, former, str(root)))
    writer.change_config(root=str(root))


def _forget_unreadable(writer: Writer, paths: Set[str], unlisted: Unreadable) -> None:
    """Deletes files that no longer exist from the list of unreadable files."""
    gone = [path for path, _ in writer.catalog.unreadable() if path not in paths and not is_below(path, unlisted)]
    if gone:
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.forget_unreadable(gone)


def _apply(
    plan: Plan, writer: Writer, root: Path, load: "Callable[[], Model]", progress: Progress, *, must_exist: bool
) -> SyncReport:
    """Makes the planned changes: removes and moves images in one transaction, then describes images in batches.

    Returns:
        What was done. Images whose new content could not be described are not counted as changed.
    """
    catalog = writer.catalog
    if plan.facts or plan.moved or plan.gone:
        writer.begin_changes()
        with catalog.transaction():
            catalog.remove(plan.gone)
            catalog.update_files([*plan.facts.items(), *plan.moved.items()])
    described = Described()
    images, refused = refuse_names(writer, plan.describe)
    if images:
        config, model = writer.config, load()
        config.check_model(writer.path, model)
        settings = replace(model.settings(), size=config.size, scales=config.scales)
        total = len(images)
        described = describe_into(
            writer, root, images, model, settings, lambda done: progress(done, total), must_exist=must_exist
        )
    vanished = [plan.replaced[path] for path in described.gone if path in plan.replaced]
    if vanished:
        writer.begin_changes()
        with catalog.transaction():
            catalog.remove(vanished)
    kept = plan.replaced.keys() & {path for path, _ in described.inaccessible}
    lost = plan.replaced.keys() & {path for path, _ in described.unreadable}
    changed = len(plan.replaced) - len(kept) - len(lost) - len(vanished)
    return SyncReport(
        added=described.added - changed,
        changed=changed,
        moved=len(plan.moved),
        removed=len(plan.gone) + len(lost) + len(vanished),
        unchanged=plan.unchanged + len(kept),
        unreadable=(*refused, *described.unreadable),
        inaccessible=(*plan.inaccessible, *described.inaccessible),
    )


def _names(image: str, root: Path) -> list[str]:
    """The paths in the index that ``image`` may mean: itself, and its path relative to the root."""
    file = Path(image).parent.resolve() / Path(image).name
    return [image.rstrip("/"), *([file.relative_to(root).as_posix()] if file.is_relative_to(root) else [])]
