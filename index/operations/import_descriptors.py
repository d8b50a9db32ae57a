"""Descriptors that `glam describe` writes, here or on other machines, taken into an index.

    glam describe --NotedFiles--> FILE.json says which bytes each row of FILE.safetensors is of
    glam index build --import_described--> descriptors of files that are what they were --> Writer.add

Files are read one after another, so that the parts of `glam describe --shard` need not be put together first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.datasets.collection import ImageFile
from glam.descriptor_files import map_descriptors, read_metadata
from glam.errors import GlamError
from glam.index.operations.image_files import facts_of, read_ahead, read_facts, size_and_time
from glam.index.storage.catalog import IndexConfig
from glam.index.writer import DescribedFile, Writer
from glam.stage_times import Times

if TYPE_CHECKING:
    from glam.images import Box, ImageSource
    from glam.inference.pipeline import DescribedImage

BATCH = 1_024
"""Images a transaction."""

SAME = ("fingerprint", "dim", "size", "scales")
"""What a file of descriptors and the index have to share."""


class FileDescribed(NamedTuple):
    """An image file as `glam describe` notes it: BLAKE2b-128 of its bytes, their number, its time in nanoseconds, and
    the pixels of the upright image. The hash of one that could not be read is ''."""

    hash: str
    bytes: int
    modified: int
    width: int
    height: int


class NotedFiles:
    """What `glam describe` notes of each file: of the very bytes that are described.

    Attributes:
        files: of each image, complete when `described` has ended.
    """

    def __init__(self, root: Path, images: Sequence[ImageFile]) -> None:
        self.files = [FileDescribed("", 0, 0, 0, 0)] * len(images)
        self._root = root
        self._images = images

    def sources(self, threads: int, times: Times) -> "Iterator[tuple[ImageSource, Box | None]]":
        """The files for `Model.stream`, read ahead."""
        for position, file in enumerate(read_ahead(self._root, self._images, threads=threads, times=times)):
            facts = file.facts
            self.files[position] = FileDescribed(facts.hash, facts.bytes, facts.modified, 0, 0)
            yield file.source, None

    def described(self, stream: "Iterable[DescribedImage]") -> "Iterator[DescribedImage]":
        """What the model makes of them, as it comes."""
        for image in stream:
            noted = self.files[image.position]
            self.files[image.position] = noted._replace(width=image.width, height=image.height)
            yield image


def check_descriptor_files(files: Sequence[Path], config: IndexConfig) -> None:
    """Makes sure that an index can take the descriptors in files.

    Raises:
        GlamError: a file is none of `glam describe`, or of another model or other settings.
    """
    for file in files:
        noted = read_metadata(file)
        if "files" not in noted:
            raise GlamError(
                f"{file} does not say which files it describes, as an older glam did not; describe them again"
            )
        for name in SAME:
            theirs, ours = noted.get(name), getattr(config, name)
            if isinstance(theirs, list):
                theirs = tuple(theirs)
            if theirs != ours:
                model = f" (model {noted.get('model')!r})" if name == "fingerprint" else ""
                raise GlamError(f"{file}: its {name} is {theirs!r}{model}, the index's {ours!r}")


def import_described(
    writer: Writer, root: Path, images: Sequence[ImageFile], files: Sequence[Path], progress: Callable[[int], None]
) -> list[ImageFile]:
    """Adds the images whose descriptors are in files, in batches.

    Args:
        writer: of the index.
        root: folder that the paths are relative to.
        images: none of which is in the index.
        files: that `glam describe` wrote.
        progress: called with images done.

    Returns:
        The images that are left: in none of the files, changed since, or not readable then.
    """
    left = {image.path: image for image in images}
    batch: list[DescribedFile] = []
    done = 0
    for file in files:
        for described in _described_files(file, root, left):
            batch.append(described)
            done += 1
            if len(batch) == BATCH:
                writer.add(batch)
                batch = []
                progress(done)
    writer.add(batch)
    progress(done)
    return list(left.values())


def _described_files(file: Path, root: Path, left: dict[str, ImageFile]) -> Iterator[DescribedFile]:
    """The images of one file; they are taken out of those that are left."""
    header, descriptors = read_metadata(file), map_descriptors(file)
    for path, noted, descriptor in zip(header["paths"], header["files"], descriptors, strict=True):
        image = left.get(path)
        described = None if image is None else _described_file(root, image, FileDescribed(*noted), descriptor)
        if described is not None:
            del left[path]
            yield described


def _described_file(
    root: Path, image: ImageFile, noted: FileDescribed, descriptor: NDArray[np.float32]
) -> DescribedFile | None:
    """An image with its descriptor; None if that was not made, or of another content than the file has now."""
    if not noted.hash or np.isnan(descriptor[0]):
        return None
    if size_and_time(root / image.path) == (noted.bytes, noted.modified):
        facts = facts_of(image, noted.hash, noted.bytes, noted.modified)
    else:
        now = read_facts(root, image)
        if now is None or now.hash != noted.hash:
            return None
        facts = now
    return DescribedFile(facts, noted.width, noted.height, np.array(descriptor))
