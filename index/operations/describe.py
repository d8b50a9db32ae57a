"""`describe_into`: describes images and adds them to an index.

    build, sync, add --refuse_names, describe_into--> read_ahead --> Model.stream --> batches --> Writer.add

The catalog commits one batch at a time, so a run that is killed resumes after its last complete batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glam.datasets.collection import ImageFile, is_utf8, printable_path
from glam.images import ImageSource
from glam.index.operations.image_files import read_ahead
from glam.index.storage.records import FileFacts
from glam.index.storage.segments import is_usable
from glam.index.writer import ImageToAdd, Writer

if TYPE_CHECKING:
    from glam.images import Box
    from glam.inference.pipeline import Settings
    from glam.model import Model

Unreadable = tuple[tuple[str, str], ...]
"""Path and reason of each file that could not be read."""


class Described(NamedTuple):
    """The result of `describe_into`.

    Attributes:
        added: number of images that were described and added.
        unreadable: path and reason of each file that is no image or is damaged.
        inaccessible: path and reason of each file that the system refused to read.
        gone: paths of the files that no longer exist, unless they count as unreadable.
    """

    added: int = 0
    unreadable: Unreadable = ()
    inaccessible: Unreadable = ()
    gone: tuple[str, ...] = ()


def refuse_names(writer: Writer, images: Sequence[ImageFile]) -> tuple[list[ImageFile], Unreadable]:
    """Lists images as unreadable whose names are not UTF-8, which the catalog cannot hold.

    Args:
        writer: writer of the index.
        images: images to describe.

    Returns:
        The other images; and path and reason of those that were refused.
    """
    others = [image for image in images if is_utf8(image.path)]
    refused = tuple(
        (printable_path(image.path), "its name is not UTF-8") for image in images if not is_utf8(image.path)
    )
    if refused:
        writer.add([], refused)
    return others, refused


def describe_into(
    writer: Writer,
    root: Path,
    images: Sequence[ImageFile],
    model: "Model",
    settings: "Settings",
    progress: Callable[[int], None],
    *,
    must_exist: bool,
) -> Described:
    """Describes images and adds them in batches. Each replaces the image at the same path, if there is one.

    Each file is read once, so that the hash and the descriptor belong to the same bytes. What the index knows of a file
    that the system refuses to read is kept. An interrupt from the keyboard adds all that was described.

    Args:
        writer: writer of the index.
        root: folder that the paths of the images are relative to.
        images: images to describe, with names in UTF-8.
        model: model that describes them.
        settings: size and scales at which images are described.
        progress: called with the number of images done.
        must_exist: whether a file that does not exist counts as unreadable, because a list or the user names it. A scan
            found the others, and they were deleted since.

    Returns:
        How many images were added, and which files were not described.
    """
    unreadable: list[tuple[str, str]] = []
    inaccessible: list[tuple[str, str]] = []
    gone: list[str] = []
    facts: dict[int, FileFacts] = {}

    def sources() -> Iterator[tuple[ImageSource, "Box | None"]]:
        position = 0
        for file in read_ahead(root, images):
            path = file.facts.path
            if file.failure == "inaccessible":
                inaccessible.append((path, file.reason))
            elif file.failure == "gone" and not must_exist:
                gone.append(path)
            elif file.failure:
                unreadable.append((path, file.reason))
            else:
                facts[position] = file.facts
                position += 1
                yield file.source, None

    limits = writer.limits
    batch: list[ImageToAdd] = []
    added = recorded = 0
    last = time.monotonic()
    done = 0
    progress(done)
    try:
        for done, image in enumerate(model.stream(sources(), settings), start=1):
            file = facts.pop(image.position)
            if image.descriptor is None:
                assert image.error is not None
                unreadable.append((file.path, image.error.reason))
            elif not is_usable(image.descriptor):
                unreadable.append((file.path, "its descriptor is zero or not finite"))
            else:
                batch.append(ImageToAdd(file, image.width, image.height, image.descriptor))
                added += 1
            failed = len(unreadable)
            if (
                len(batch) + failed - recorded >= limits.commit_images
                or time.monotonic() - last > limits.commit_seconds
            ):
                writer.add(batch, unreadable[recorded:failed])
                batch, recorded, last = [], failed, time.monotonic()
            progress(done)
    except KeyboardInterrupt:
        writer.add(batch, unreadable[recorded:])
        raise
    writer.add(batch, unreadable[recorded:])
    if done < len(images):
        progress(len(images))
    return Described(added, tuple(unreadable), tuple(inaccessible), tuple(gone))
