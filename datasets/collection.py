"""A collection of images on disk: relative paths and the landmark each one shows."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError, system_reason
from glam.plurals import count

Value = str | int | float

SUFFIXES_SHOWN = 8
"""Most suffixes that `Skipped.summary` names; arbitrary, so that the text stays readable."""

NO_METADATA: Mapping[str, Value] = {}
"""The empty metadata that most images share, to save memory."""


class ImageFile(NamedTuple):
    """An image of a collection. It is a tuple rather than a dataclass because a collection can have millions of them.

    Attributes:
        path: path relative to the root of the collection, with forward slashes.
        landmark: name of the landmark; empty if unknown.
        shape: (width, height) of the upright image in pixels; None if it has to be read from the file.
        metadata: further facts about the image, by name.
    """

    path: str
    landmark: str = ""
    shape: tuple[int, int] | None = None
    metadata: Mapping[str, Value] = NO_METADATA


LandmarkFrom = Literal["folder", "parent", "manifest", "none"]
"""What names the landmark of an image: the path of its folder relative to the root, the name of its folder alone, the
manifest that lists it, or nothing."""


@dataclass(frozen=True)
class ScanOptions:
    """How the images of a source are found and what names their landmarks.

    Attributes:
        exclude: patterns of the paths to leave out, as in a ``.gitignore``, relative to the root; the default system
            folders are left out too.
        follow_links: whether links to folders are followed.
        within_root: whether links that lead out of the root are passed over, as an index requires.
        landmark_from: what names the landmark of an image; None for the manifest if there is one, else the folder.
    """

    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    within_root: bool = False
    landmark_from: LandmarkFrom | None = None


@dataclass(frozen=True)
class Skipped:
    """What a scan of a folder passed over, by reason. Paths are relative to the root.

    Attributes:
        formats: number of files of each suffix, in lower case, whose format is not read.
        excluded: number of files and folders that match an excluded pattern or are system folders.
        links: path and reason of each link that was not followed.
        unlisted: path and reason of each folder that could not be listed.
    """

    formats: Mapping[str, int] = field(default_factory=dict)
    excluded: int = 0
    links: tuple[tuple[str, str], ...] = ()
    unlisted: tuple[tuple[str, str], ...] = ()

    def summary(self, unreadable: int = 0) -> str:
        """The counts in one line, by reason and most frequent suffixes first; empty if nothing was skipped.

        Args:
            unreadable: number of images that could not be read afterwards.

        Examples:
            >>> Skipped({".psd": 3, ".mov": 41}, excluded=12).summary(unreadable=2)
            '41 .mov, 3 .psd (format not read), 2 unreadable, 12 excluded'
        """
        from glam.images.formats import INSTALL, NEEDS_EXTRA  # here, because most uses of collections need no decoder

        extra = {suffix: number for suffix, number in self.formats.items() if suffix in NEEDS_EXTRA}
        others = {suffix: number for suffix, number in self.formats.items() if suffix not in NEEDS_EXTRA}
        parts = [
            f"{_most_frequent(counts)} ({note})"
            for counts, note in ((others, "format not read"), (extra, f"needs {INSTALL}"))
            if counts
        ]
        folders, links = len(self.unlisted), len(self.links)
        for number, text in (
            (unreadable, f"{unreadable:,} unreadable"),
            (folders, f"{count(folders, 'folder')} that could not be listed"),
            (self.excluded, f"{self.excluded:,} excluded"),
            (links, count(links, "link")),
        ):
            if number:
                parts.append(text)
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The counts, and the reason by path, as a JSON object."""
        return {
            "formats": dict(self.formats),
            "excluded": self.excluded,
            "links": dict(self.links),
            "unlisted": dict(self.unlisted),
        }


def _most_frequent(counts: Mapping[str, int]) -> str:
    """Numbers of files by suffix, as in ``41 .mov, 3 .psd``."""
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{number:,} {suffix or 'without a suffix'}" for suffix, number in by_count[:SUFFIXES_SHOWN]]
    rest = by_count[SUFFIXES_SHOWN:]
    if rest:
        files = sum(number for _, number in rest)
        shown.append(f"and {files:,} with {count(len(rest), 'other suffix', 'other suffixes')}")
    return ", ".join(shown)


NOTHING_SKIPPED = Skipped()


@dataclass(frozen=True)
class Collection:
    """Images below one root folder.

    Attributes:
        root: folder that the paths of the images are relative to.
        images: the images, in a stable order.
        skipped: what the scan of the folder passed over.
        source: folder or list that the images were read from; None if they were put together by the caller.
        options: how the source was read, so that it can be read the same way again.
        is_list: whether the source is a list, or a folder with a list in it, rather than a folder that was scanned.
    """

    root: Path
    images: tuple[ImageFile, ...]
    skipped: Skipped = NOTHING_SKIPPED
    source: Path | None = None
    options: ScanOptions = ScanOptions()
    is_list: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def file(self, i: int) -> Path:
        """The path on disk of the image at index ``i``."""
        return self.root / self.images[i].path

    @cached_property
    def landmarks(self) -> tuple[str, ...]:
        """The distinct landmark names, sorted; images without a landmark add none."""
        return tuple(sorted({image.landmark for image in self.images} - {""}))

    @cached_property
    def landmark_ids(self) -> NDArray[np.int64]:
        """(n,) landmark id of each image: the index of its landmark in `landmarks`, or -1 if it has no landmark."""
        id_of = {"": -1} | {landmark: i for i, landmark in enumerate(self.landmarks)}
        return np.fromiter((id_of[image.landmark] for image in self.images), np.int64, len(self.images))

    def filter(self, predicate: Callable[[ImageFile], bool]) -> "Collection":
        """A collection of the images for which ``predicate`` is true, in the same order."""
        return replace(self, images=tuple(image for image in self.images if predicate(image)))


def exclude(collection: Collection, names: Set[str]) -> Collection:
    """Removes the images whose path or landmark is in ``names``.

    Args:
        collection: the images.
        names: landmark names, or paths relative to the root of the collection.

    Returns:
        A collection of the remaining images.

    Raises:
        GlamError: the names match no image, so they probably belong to another collection, or they match every image.
    """
    kept = collection.filter(lambda image: image.path not in names and image.landmark not in names)
    if len(kept) == len(collection):
        raise GlamError(
            f"{collection.root}: none of the {len(names)} names to leave out is a landmark or a path in it. "
            "Check that the list belongs to these images."
        )
    if not len(kept):
        raise GlamError(f"{collection.root}: the names to leave out match every image. Shorten the list.")
    return kept


def printable_path(path: str) -> str:
    """The path with a backslash escape for each byte that is not UTF-8, for files that are. A name can be any bytes."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode("utf-8")


def is_utf8(path: str) -> bool:
    """Whether a path is valid UTF-8, as the files that list paths require."""
    return printable_path(path) == path


def read_names(file: Path) -> frozenset[str]:
    """Reads names for `exclude` from a text file.

    Args:
        file: UTF-8 text with one landmark or path per line; blank lines are ignored.

    Raises:
        GlamError: the file cannot be opened or is not UTF-8 text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise GlamError(f"{file} cannot be opened: {system_reason(error)}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise GlamError(f"{file} is not a text file in UTF-8. Save it with one landmark or path per line.") from error
    return frozenset(line.strip() for line in lines if line.strip())
