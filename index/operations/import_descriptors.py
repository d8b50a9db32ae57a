"""Import of descriptors that `glam describe` has written, on this machine or on others.

    glam describe --NotedFiles--> FILE.json: hash, size, and time of the image file of each row of FILE.safetensors
    glam index build --import_descriptors--> descriptors of images whose files are unchanged --> Writer.add

The files of descriptors are read one by one, so the shards of `glam describe --shard` need no merging.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.datasets.collection import ImageFile
from glam.descriptor_files import map_descriptors, read_metadata
from glam.errors import GlamError
from glam.index.operations.image_files import facts_of, read_ahead, read_facts, size_and_time
from glam.index.storage.records import IndexConfig
from glam.index.storage.segments import is_usable
from glam.index.writer import ImageToAdd, Writer
from glam.stage_times import Times

if TYPE_CHECKING:
    from glam.images import Box, ImageSource
    from glam.inference.pipeline import DescribedImage

BATCH = 1_024
"""Images per transaction (arbitrary)."""

SAME = ("fingerprint", "dim", "size", "scales")
"""Values that a file of descriptors and the index must share."""

HASH = re.compile("([0-9a-f]{32})?")
"""Values of `FileRecord.hash`."""

LARGEST = (1 << 63) - 1
"""Largest number that SQLite stores."""


class FileRecord(NamedTuple):
    """What `glam describe` records of an image file, to tell later whether the file changed.

    Attributes:
        hash: BLAKE2b-128 of the file in hexadecimal digits; '' if it could not be read.
        bytes: size of the file in bytes.
        modified: modification time of the file in nanoseconds.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
    """

    hash: str
    bytes: int
    modified: int
    width: int
    height: int


class NotedFiles:
    """Records the files that `glam describe` reads, while it describes them.

    Args:
        root: folder that the paths of the images are relative to.
        images: images to describe.

    Attributes:
        files: one record per image, in the order of ``images``; complete once `described` is exhausted.
    """

    def __init__(self, root: Path, images: Sequence[ImageFile]) -> None:
        self.files = [FileRecord("", 0, 0, 0, 0)] * len(images)
        self._root = root
        self._images = images

    def sources(self, threads: int, times: Times) -> "Iterator[tuple[ImageSource, Box | None]]":
        """Reads the files ahead for `Model.stream`.

        Args:
            threads: number of threads that read.
            times: receives the time spent in the stage ``read``.

        Yields:
            For each image its bytes, or its path if it could not be read, and None as its box.
        """
        for position, file in enumerate(read_ahead(self._root, self._images, threads=threads, times=times)):
            facts = file.facts
            self.files[position] = FileRecord(facts.hash, facts.bytes, facts.modified, 0, 0)
            yield file.source, None

    def described(self, stream: "Iterable[DescribedImage]") -> "Iterator[DescribedImage]":
        """Passes on the results of `Model.stream`, and records the size of each image.

        Args:
            stream: results of `Model.stream` for `sources`.

        Yields:
            The same results.
        """
        for image in stream:
            record = self.files[image.position]
            self.files[image.position] = record._replace(width=image.width, height=image.height)
            yield image


def check_descriptor_files(files: Sequence[Path], config: IndexConfig) -> None:
    """Checks that descriptors in files fit an index.

    Args:
        files: files written by `glam describe`.
        config: configuration of the index.

    Raises:
        GlamError: a file is damaged, was not written by `glam describe`, or with another model or other settings.
    """
    for file in files:
        metadata = read_metadata(file)
        if "files" not in metadata:
            raise GlamError(
                f"{file} was written by an older version of glam, which did not record the image files. "
                "Run `glam describe` again."
            )
        for name in SAME:
            value, expected = metadata.get(name), getattr(config, name)
            if isinstance(value, list):
                value = tuple(value)
            if value != expected:
                difference = (
                    f"its model is {metadata.get('model')!r}, and the index has another model, {config.model!r}"
                    if name == "fingerprint"
                    else f"its {name} is {value}, that of the index is {expected}"
                )
                raise GlamError(
                    f"{file}: {difference}. Describe the images again with the model and settings of the index."
                )
        if not _fit_together(metadata["paths"], metadata["files"], map_descriptors(file).shape, config.dim):
            raise GlamError(
                f"{file} and its JSON file do not fit together, or are damaged. Copy both again, or describe the "
                "images again."
            )


def _fit_together(paths: object, files: object, shape: tuple[int, ...], dim: int) -> bool:
    """Whether there are a path and a `FileRecord` for each row of descriptors of this shape."""
    return (
        isinstance(paths, list)
        and isinstance(files, list)
        and shape == (len(paths), dim) == (len(files), dim)
        and all(isinstance(path, str) for path in paths)
        and all(_is_record(values) for values in files)
    )


def _is_record(values: object) -> bool:
    """Whether a JSON value has the fields of a `FileRecord`."""
    if not isinstance(values, list) or len(values) != len(FileRecord._fields):
        return False
    content, *numbers = values
    return (
        isinstance(content, str)
        and HASH.fullmatch(content) is not None
        and all(type(number) is int and abs(number) <= LARGEST for number in numbers)
    )


def import_descriptors(
    writer: Writer, root: Path, images: Sequence[ImageFile], files: Sequence[Path], progress: Callable[[int], None]
) -> list[ImageFile]:
    """Adds the images whose descriptors are in files, in batches.

    Args:
        writer: writer of the index.
        root: folder that the paths of the images are relative to.
        images: images to add; none of them is in the index.
        files: files written by `glam describe`.
        progress: called with the number of images done.

    Returns:
        The images that remain to be described: those in none of the files, and those whose image file has changed or
        could not be read when it was described.
    """
    left = {image.path: image for image in images}
    batch: list[ImageToAdd] = []
    done = 0
    for file in files:
        for image in _read_file(file, root, left):
            batch.append(image)
            done += 1
            if len(batch) == BATCH:
                writer.add(batch)
                batch = []
                progress(done)
    writer.add(batch)
    progress(done)
    return list(left.values())


def _read_file(file: Path, root: Path, left: dict[str, ImageFile]) -> Iterator[ImageToAdd]:
    """The usable descriptors of one file; removes their images from ``left``."""
    header, descriptors = read_metadata(file), map_descriptors(file)
    for path, values, descriptor in zip(header["paths"], header["files"], descriptors, strict=True):
        image = left.get(path)
        usable = None if image is None else _with_facts(root, image, FileRecord(*values), descriptor)
        if usable is not None:
            del left[path]
            yield usable


def _with_facts(root: Path, image: ImageFile, record: FileRecord, descriptor: NDArray[np.float32]) -> ImageToAdd | None:
    """An image with its descriptor (dim,); None if it was not described, or its file has changed."""
    if not record.hash or not is_usable(descriptor):
        return None
    try:
        is_unchanged = size_and_time(root / image.path) == (record.bytes, record.modified)
    except OSError:
        return None
    if is_unchanged:
        facts = facts_of(image, record.hash, record.bytes, record.modified)
    else:
        now = read_facts(root, image)
        if now is None or now.hash != record.hash:
            return None
        facts = now
    return ImageToAdd(facts, record.width, record.height, np.array(descriptor))
