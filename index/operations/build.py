"""`build`: creates an index of a collection of images, or resumes its creation.

build --> images that the index lacks --import_descriptors, describe_into--> Writer
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from glam.datasets.collection import NOTHING_SKIPPED, Collection, ImageFile, Skipped
from glam.errors import GlamError
from glam.index.ann import KINDS
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.milvus import Milvus, MilvusConfig
from glam.index.milvus.sync import check_available
from glam.index.operations.describe import Unreadable, describe_into, refuse_names
from glam.index.operations.image_files import is_same_path
from glam.index.operations.import_descriptors import check_descriptor_files, import_descriptors
from glam.index.storage.records import IndexConfig
from glam.index.storage.schema import CATALOG
from glam.index.storage.source_config import SourceConfig
from glam.index.writer import FAISS, Writer, open_writer
from glam.progress import Progress, no_progress

if TYPE_CHECKING:
    from glam.inference.pipeline import Settings
    from glam.model import Model


@dataclass(frozen=True)
class BuildReport:
    """The result of `build`.

    Attributes:
        added: number of images that were added.
        present: number of images that the index held before.
        unreadable: path and reason of each file that could not be read in this run.
        taken: number of added images whose descriptors were imported from files.
        inaccessible: path and reason of each folder and file that the system refused to read.
        skipped: what the scan of the folder passed over.
    """

    added: int
    present: int
    unreadable: Unreadable
    taken: int = 0
    inaccessible: Unreadable = ()
    skipped: Skipped = NOTHING_SKIPPED


class SearchChoice(TypedDict, total=False):
    """Keyword arguments of `build` that choose how the index is searched.

    Attributes:
        structure: kind of the search structure, one of `glam.index.ann.KINDS`; "" chooses by the number of images;
            None, the default, keeps the current choice.
        backend: a Milvus collection, or "faiss"; None, the default, keeps the current choice, which is FAISS for a new
            index.
    """

    structure: str | None
    backend: Milvus | Literal["faiss"] | None


def build(
    path: str | Path,
    collection: Collection,
    model: "Model",
    *,
    settings: "Settings | None" = None,
    descriptors: Sequence[Path] = (),
    progress: Progress = no_progress,
    limits: IndexLimits = DEFAULT_LIMITS,
    **choice: Unpack[SearchChoice],
) -> BuildReport:
    """Builds an index, or resumes a build with the same model and settings.

    Images that are already in the index are skipped, even if their files changed. `glam.index.sync` updates them.

    Args:
        path: folder of the index; created if it does not exist.
        collection: images to add.
        model: model that describes the images.
        settings: size and scales at which images are described; the model's own by default.
        descriptors: files written by `glam describe`; images whose descriptors they contain are not described again.
        progress: called with the number of images done and the total.
        limits: limits of the index.
        choice: how the index is searched, for example ``structure="exact"``; see `SearchChoice`.

    Returns:
        What was added, and which files could not be read.

    Raises:
        GlamError: the index at ``path`` was built with another model, other settings, or from another folder; a file
            of descriptors does not fit the index; another writer is active; the disk is full; or the Milvus server
            cannot be reached.
    """
    structure, backend = _structure_and_backend(**choice)
    settings = settings or model.settings()
    root = str(collection.root.resolve())
    source = SourceConfig.of(collection)
    config = IndexConfig(
        model.name, model.fingerprint, model.dim, settings.size, settings.scales, root, structure or "", source=source
    )
    check_descriptor_files(descriptors, config)
    if isinstance(backend, Milvus) and not (Path(path) / CATALOG).is_file():
        # Check first: a failure later would leave an index whose Milvus collection does not exist.
        check_available(MilvusConfig.of(backend, Path(path)), config)
    with open_writer(Path(path), begin=config, limits=limits) as writer:
        _check_same(writer, config)
        if backend is not None:
            writer.choose_backend(None if backend == FAISS else backend)
        if structure is not None:
            writer.choose_structure(structure)
        recorded = writer.config.source
        if source is not None and (recorded is None or recorded.path == source.path):
            writer.change_config(source=source)
        known, images = writer.catalog.paths(), unique_by_path(collection.images)
        todo = [image for image in images if image.path not in known]
        present = len(images) - len(todo)
        todo, refused = refuse_names(writer, todo)
        left = import_descriptors(
            writer, collection.root, todo, descriptors, lambda done: progress(present + done, len(images))
        )
        before = len(images) - len(left)
        described = describe_into(
            writer,
            collection.root,
            left,
            model,
            settings,
            lambda done: progress(before + done, len(images)),
            must_exist=collection.is_list,
        )
    taken = len(todo) - len(left)
    return BuildReport(
        added=taken + described.added,
        present=present,
        unreadable=(*refused, *described.unreadable),
        taken=taken,
        inaccessible=(*collection.skipped.unlisted, *described.inaccessible),
        skipped=collection.skipped,
    )


def _structure_and_backend(
    structure: str | None = None, backend: Milvus | Literal["faiss"] | None = None
) -> tuple[str | None, Milvus | Literal["faiss"] | None]:
    """A `SearchChoice` with its defaults.

    Raises:
        GlamError: the kind of structure does not exist.
    """
    if structure and structure not in KINDS:
        raise GlamError(f"There is no search structure {structure!r}. Choose one of {', '.join(KINDS)}.")
    return structure, backend


def unique_by_path(images: Iterable[ImageFile]) -> list[ImageFile]:
    """The images without duplicate paths; the last image at a path wins."""
    return list({image.path: image for image in images}.values())


def _check_same(writer: Writer, config: IndexConfig) -> None:
    """Checks that an existing index has this configuration.

    Raises:
        GlamError: it was built with another model, other settings, or from another folder.
    """
    was = writer.config
    for name in ("fingerprint", "size", "scales"):
        if getattr(was, name) != getattr(config, name):
            raise GlamError(f"{writer.path} was built {_difference(name, was, config)}. Build a new index instead.")
    if not is_same_path(was.root, config.root):
        raise GlamError(other_folder(writer.path, was.root, config.root))


def other_folder(index: Path, root: str, other: str) -> str:
    """Error message for a folder that is not the root of an index."""
    return (
        f"{index} is an index of {root}, not of {other}. Build a new index or, if the images moved there, run "
        f"`glam index relocate {index} {other}`."
    )


def _difference(name: str, was: IndexConfig, config: IndexConfig) -> str:
    """How an index was built, and how the requested build differs."""
    if name == "fingerprint":
        return f"with {was.model}, not with {'this version of it' if config.model == was.model else config.model}"
    if name == "size":
        return f"from images of {was.size} pixels, not of {config.size}"
    return f"at the scales {was.scales}, not at {config.scales}"
