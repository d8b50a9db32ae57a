"""A collection of images on disk: relative paths and the landmark each one shows."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError

Value = str | int | float

NO_METADATA: Mapping[str, Value] = {}
"""The metadata of most images, so that they share one."""


class ImageFile(NamedTuple):
    """One image. (A tuple, not a dataclass: there are millions of them.)

    Attributes:
        path: relative to the collection's root, with forward slashes.
        landmark: what it shows; empty where that is not known.
        shape: (width, height) in pixels of the upright image; None where only the file knows.
        metadata: what else is known of it, by name.
    """

    path: str
    landmark: str = ""
    shape: tuple[int, int] | None = None
    metadata: Mapping[str, Value] = NO_METADATA


@dataclass(frozen=True)
class Collection:
    """Images under one root.

    Attributes:
        root: folder that the paths are relative to.
        images: in a stable order.
    """

    root: Path
    images: tuple[ImageFile, ...]

    def __len__(self) -> int:
        return len(self.images)

    def file(self, i: int) -> Path:
        """Path of image ``i`` on disk."""
        return self.root / self.images[i].path

    @cached_property
    def landmarks(self) -> tuple[str, ...]:
        """The distinct landmarks, sorted."""
        return tuple(sorted({image.landmark for image in self.images}))

    @cached_property
    def landmark_ids(self) -> NDArray[np.int64]:
        """(n,): the landmark of each image, as its index in `landmarks`."""
        id_of = {landmark: i for i, landmark in enumerate(self.landmarks)}
        return np.fromiter((id_of[image.landmark] for image in self.images), np.int64, len(self.images))

    def filter(self, wanted: Callable[[ImageFile], bool]) -> "Collection":
        """The images for which ``wanted`` is true, in the same order."""
        return Collection(self.root, tuple(image for image in self.images if wanted(image)))


def exclude(collection: Collection, names: Set[str]) -> Collection:
    """The collection without the images whose path or landmark is among ``names``.

    Raises:
        GlamError: no image is left out, so the names are of another collection; or all are.
    """
    kept = collection.filter(lambda image: image.path not in names and image.landmark not in names)
    if len(kept) == len(collection):
        raise GlamError(f"{collection.root}: none of the {len(names)} names to leave out is a landmark or path in it")
    if not len(kept):
        raise GlamError(f"{collection.root}: the names to leave out leave no photograph")
    return kept


def read_names(file: Path) -> frozenset[str]:
    """Names for `exclude`, from a UTF-8 text file with one landmark or path a line; empty lines count for nothing.

    Raises:
        GlamError: there is no such file, or it is not text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise GlamError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise GlamError(f"{file}: not a text file in UTF-8") from error
    return frozenset(line.strip() for line in lines if line.strip())
