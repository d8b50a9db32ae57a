"""Building an index from a collection of images, and describing whatever is to be added to one.

    build, sync, add --describe_into--> read_ahead --> Model.stream --> batches --> Writer.add

A batch is in the index once the catalog has it: a build that is killed and run again goes on after the last whole
batch.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from glam.datasets.collection import Collection, ImageFile
from glam.errors import GlamError
from glam.images import ImageSource
from glam.index.ann import KINDS
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.milvus import Milvus, MilvusConfig
from glam.index.milvus.sync import check_available
from glam.index.operations.image_files import read_ahead
from glam.index.operations.import_descriptors import check_descriptor_files, import_described
from glam.index.storage.catalog import FileFacts, IndexConfig
from glam.index.storage.schema import CATALOG
from glam.index.writer import FAISS, DescribedFile, Writer, open_writer
from glam.progress import Progress, no_progress

if TYPE_CHECKING:
    from glam.images import Box
    from glam.inference.pipeline import Settings
    from glam.model import Model

Unreadable = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        added: images that were added.
        present: images that were in the index before.
        unreadable: (path, reason) of each file that could not be read this time.
        taken: images among those added whose descriptors came from files.
    """

    added: int
    present: int
    unreadable: Unreadable
    taken: int = 0


class SearchChoice(TypedDict, total=False):
    """Keyword arguments of `build` that choose what searches an index from now on.

    Attributes:
        structure: kind of the search structure, one of `glam.index.ann.KINDS`; "" has it chosen by size; None, the
            default, leaves what was chosen before.
        backend: FAISS or a collection in Milvus; None, the default, leaves what was chosen before, FAISS if there was
            nothing.
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
    """Builds an index, or goes on with one that was begun with the same model and settings.

    What is in the index already is not looked at; `glam.index.sync` does that.

    Args:
        path: folder of the index, made if it is not there.
        collection: the images.
        model: describes them.
        settings: size and scales; the model's own by default.
        descriptors: files of `glam describe` that have the descriptors of some images; these are not described again.
        progress: called with images done and images in all, as it goes.
        limits: sizes and times at which the index changes how it works.
        choice: what searches the index from now on, as ``structure="exact"``; see `SearchChoice`.

    Raises:
        GlamError: the index at ``path`` was built with another model, other settings or from another folder; another
            writer is at work; the disk is full; Milvus cannot be used.
    """
    structure, backend = _structure_and_backend(**choice)
    settings = settings or model.settings()
    root = str(collection.root.resolve())
    config = IndexConfig(
        model.name, model.fingerprint, model.dim, settings.size, settings.scales, root, structure or ""
    )
    check_descriptor_files(descriptors, config)
    if isinstance(backend, Milvus) and not (Path(path) / CATALOG).is_file():
        # Before there is an index, which would then be without its collection.
        check_available(MilvusConfig.of(backend, Path(path)), config)
    with open_writer(Path(path), begin=config, limits=limits) as writer:
        _check_same(writer, config)
        if backend is not None:
            writer.choose_backend(None if backend == FAISS else backend)
        if structure is not None:
            writer.choose_structure(structure)
        known, images = writer.catalog.paths(), unique_by_path(collection.images)
        todo = [image for image in images if image.path not in known]
        present = len(images) - len(todo)
        left = import_described(
            writer, collection.root, todo, descriptors, lambda done: progress(present + done, len(images))
        )
        before = len(images) - len(left)
        unreadable = describe_into(
            writer, collection.root, left, model, settings, lambda done: progress(before + done, len(images))
        )
    return BuildReport(len(todo) - len(unreadable), present, unreadable, len(todo) - len(left))


def _structure_and_backend(
    structure: str | None = None, backend: Milvus | Literal["faiss"] | None = None
) -> tuple[str | None, Milvus | Literal["faiss"] | None]:
    """A `SearchChoice` with its defaults.

    Raises:
        GlamError: there is no such structure.
    """
    if structure and structure not in KINDS:
        raise GlamError(f"no search structure {structure!r}; there is: {', '.join(KINDS)}")
    return structure, backend


def describe_into(
    writer: Writer,
    root: Path,
    images: Sequence[ImageFile],
    model: "Model",
    settings: "Settings",
    progress: Callable[[int], None],
) -> Unreadable:
    """Describes images and adds them in batches; each takes the place of what was present at its path.

    Args:
        writer: of the index.
        root: folder that the paths are relative to.
        images: whose files are read once, so that hash and descriptor are of the same bytes.
        model: describes them.
        settings: size and scales.
        progress: called with images done.

    Returns:
        (path, reason) of each file that could not be read.
    """
    unreadable = [(_readable_name(image.path), "its name is not UTF-8") for image in images if not _has_name(image)]
    images = [image for image in images if _has_name(image)]
    writer.add([], unreadable)
    facts: dict[int, FileFacts] = {}

    def sources() -> Iterator[tuple[ImageSource, "Box | None"]]:
        for position, file in enumerate(read_ahead(root, images)):
            facts[position] = file.facts
            yield file.source, None

    limits = writer.limits
    described: list[DescribedFile] = []
    noted = len(unreadable)
    last = time.monotonic()
    progress(0)
    for done, image in enumerate(model.stream(sources(), settings), start=1):
        file = facts.pop(image.position)
        if image.descriptor is None:
            assert image.error is not None
            unreadable.append((file.path, image.error.reason))
        else:
            described.append(DescribedFile(file, image.width, image.height, image.descriptor))
        waiting = len(described) + len(unreadable) - noted
        if waiting == limits.commit_images or done == len(images) or time.monotonic() - last > limits.commit_seconds:
            writer.add(described, unreadable[noted:])
            described, noted, last = [], len(unreadable), time.monotonic()
        progress(done)
    return tuple(unreadable)


def unique_by_path(images: Iterable[ImageFile]) -> list[ImageFile]:
    """The images by path; of two at one path the later."""
    return list({image.path: image for image in images}.values())


def _has_name(image: ImageFile) -> bool:
    """Whether its name is text: a file system takes any bytes, the catalog and JSON do not."""
    return image.path.isascii() or _readable_name(image.path) == image.path


def _readable_name(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_same(writer: Writer, config: IndexConfig) -> None:
    """Makes sure that the index was begun in the same way."""
    was = writer.config
    for name in ("fingerprint", "size", "scales", "root"):
        if getattr(was, name) != getattr(config, name):
            raise GlamError(f"{writer.path} was built {_difference(name, was, config)}. Build a new index instead.")


def _difference(name: str, was: IndexConfig, config: IndexConfig) -> str:
    """How an index was built, and that the build that is asked for differs."""
    if name == "fingerprint":
        return f"with {was.model}, not with {'this version of it' if config.model == was.model else config.model}"
    if name == "root":
        return f"from {was.root}, not from {config.root}"
    if name == "size":
        return f"from images of {was.size} pixels, not of {config.size}"
    return f"at the scales {was.scales}, not at {config.scales}"
