"""Folder scan: finds the image files below a root, and counts what it passes over by reason.

    read_folder --> scan_folder --os.scandir--> images, Skipped

No file is opened, and only links are looked at more closely than their names and types.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from glam.datasets.collection import ImageFile, LandmarkFrom, ScanOptions, Skipped, printable_path
from glam.datasets.scan_rules import LEADS_OUT, ScanRules, suffix
from glam.errors import GONE, system_reason
from glam.images import IMAGE_SUFFIXES

LOOP = "a loop of links"

DEAD_LINKS = {**dict.fromkeys(GONE, "it leads to nothing"), errno.ELOOP: LOOP}
"""Why a link leads nowhere, by the number of the error. Other errors do not say where it leads."""


def scan_folder(root: Path, options: ScanOptions) -> tuple[tuple[ImageFile, ...], Skipped]:
    """Lists the image files in a folder and its sub-folders, recognized by their suffixes.

    Hidden files and folders are passed over without being counted.

    Args:
        root: the folder.
        options: what to leave out, which links to follow, and what names the landmarks.

    Returns:
        The images, those of a folder in alphabetical order before those of its sub-folders, and what was passed over.

    Raises:
        GlamError: an excluded pattern is not a pattern.
    """
    scan = _Scan(root, options)
    images = tuple(scan.images())
    return images, Skipped(dict(scan.formats), scan.excluded, tuple(scan.links), tuple(scan.unlisted))


def landmark_of(path: str, landmark_from: LandmarkFrom) -> str:
    """The landmark that the folder of an image names.

    Args:
        path: path of the image relative to the root, with forward slashes.
        landmark_from: "folder" for the path of its folder, "parent" for the name of its folder, else no landmark.
    """
    folder = path.rpartition("/")[0]
    if landmark_from == "folder":
        return folder
    return folder.rpartition("/")[2] if landmark_from == "parent" else ""


class _Scan:
    """State of one scan.

    Attributes:
        formats: number of files by suffix whose format is not read.
        excluded: number of excluded files and folders.
        links: path and reason of each link that was not followed.
        unlisted: path and reason of each folder that could not be listed.
    """

    def __init__(self, root: Path, options: ScanOptions) -> None:
        self.root = root
        self.options = options
        self.rules = ScanRules(root, options)
        self.formats: Counter[str] = Counter()
        self.excluded = 0
        self.links: list[tuple[str, str]] = []
        self.unlisted: list[tuple[str, str]] = []
        self._visited: set[tuple[int, int]] = set()
        self._linked_folders: list[str] = []

    def images(self) -> Iterator[ImageFile]:
        """Yields the images. Linked folders come last, so that a folder is found at its own path, and only once."""
        yield from self._walk("")
        while self._linked_folders:
            yield from self._walk(self._linked_folders.pop(0))

    def _walk(self, top: str) -> Iterator[ImageFile]:
        """Yields the images of a folder, given by its path relative to the root, and of its sub-folders."""
        pending = [top]
        while pending:
            folder = pending.pop()
            if self.options.follow_links and not self._visit(folder):
                continue
            prefix = f"{folder}/" if folder else ""
            landmark = landmark_of(prefix, self.options.landmark_from or "folder")
            folders = []
            for entry in self._entries(folder):
                path = prefix + entry.name
                kind = self._kind(entry, path)
                if kind == "folder":
                    folders.append(path)
                elif kind == "linked folder":
                    self._linked_folders.append(path)
                elif kind == "file":
                    kind_of_file = suffix(entry.name)
                    if kind_of_file in IMAGE_SUFFIXES:
                        yield ImageFile(path, landmark)
                    else:
                        self.formats[printable_path(kind_of_file)] += 1
            pending.extend(reversed(folders))

    def _kind(self, entry: "os.DirEntry[str]", path: str) -> Literal["file", "folder", "linked folder"] | None:
        """What to do with an entry; None, with a note, if it is passed over."""
        is_link = False
        try:
            is_link = entry.is_symlink()
            is_folder = not is_link and entry.is_dir(follow_symlinks=False)
            if self.rules.is_excluded(entry.name, f"{path}/" if is_folder else path):
                self.excluded += 1
                return None
            if not is_link:
                return "folder" if is_folder else "file"
            target = Path(entry.path).resolve(strict=True)
            is_folder = target.is_dir()
        except RuntimeError:  # how a loop is reported before Python 3.13
            self._pass_link(path, LOOP)
            return None
        except OSError as error:
            return self._unknown_kind(entry, path, is_link, error)
        if is_folder and self.rules.is_excluded(entry.name, f"{path}/"):
            self.excluded += 1
        elif self.rules.leads_out(target):
            self._pass_link(path, LEADS_OUT)
        elif not is_folder:
            return "file"
        elif self.options.follow_links:
            return "linked folder"
        else:
            self._pass_link(path, "a link to a folder; add --follow-links")
        return None

    def _unknown_kind(
        self, entry: "os.DirEntry[str]", path: str, is_link: bool, error: OSError
    ) -> Literal["file"] | None:
        """What to do with an entry that cannot be looked at. Where the system refuses, an image is left to whoever
        opens it, and what may be a folder counts as one that could not be listed."""
        if error.errno in DEAD_LINKS:
            self._pass_link(path, DEAD_LINKS[error.errno])
        elif self.rules.leads_out(Path(os.path.realpath(entry.path))):
            self._pass_link(path, LEADS_OUT)
        elif suffix(entry.name) in IMAGE_SUFFIXES:
            return "file"
        elif is_link and not self.options.follow_links:
            self._pass_link(path, system_reason(error))
        else:
            self.unlisted.append((printable_path(path), system_reason(error)))
        return None

    def _pass_link(self, path: str, reason: str) -> None:
        self.links.append((printable_path(path), reason))

    def _entries(self, folder: str) -> list["os.DirEntry[str]"]:
        """The entries of a folder that are not hidden, by name; notes a folder that cannot be listed."""
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            if error.errno not in GONE:  # it was deleted or replaced during the scan otherwise
                self.unlisted.append((printable_path(folder) or ".", system_reason(error)))
            return []

    def _visit(self, folder: str) -> bool:
        """Notes a folder by device and inode; False if it was visited before."""
        try:
            found = (self.root / folder).stat()
        except OSError:
            return True  # listing it will tell why
        identity = (found.st_dev, found.st_ino)
        new = identity not in self._visited
        self._visited.add(identity)
        return new
