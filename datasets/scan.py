"""Folder scan: finds the image files below a root, and counts what it passes over by reason.

    read_folder --> scan_folder --os.scandir--> images, Skipped

No file is opened, and only links are looked at more closely than their names and types.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pathspec import GitIgnoreSpec

from glam.datasets.collection import ImageFile, LandmarkFrom, ScanOptions, Skipped, printable_path
from glam.errors import GONE, GlamError, system_reason
from glam.images import IMAGE_SUFFIXES

SYSTEM_NAMES = frozenset({
    *("@eadir", "@tmp", "#recycle", "#snapshot"),  # Synology
    *("@recycle", "@recently-snapshot"),  # QNAP
    *("$recycle.bin", "recycler", "system volume information", "thumbs.db", "desktop.ini"),  # Windows
    *("__macosx", "icon\r"),  # macOS
    "lost+found",  # ext4
})  # fmt: skip
"""Lower-case names of folders and files that systems add, such as thumbnails and deleted files. Names that begin with a
dot, such as ``.thumbnails``, are hidden and need no entry."""

LOOP = "a loop of links"

LEADS_OUT = "it leads out of the folder"

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


def reason_passed_over(root: Path, path: str, options: ScanOptions, *, is_listed: bool = False) -> str:
    """Why a scan passes over an image file, such as "it is hidden"; "" if the scan finds it.

    Args:
        root: the folder that is scanned.
        path: path of the file relative to the root, with forward slashes.
        options: the options of the scan.
        is_listed: whether a list has the images, so that any name will do.

    Raises:
        GlamError: an excluded pattern is not a pattern.
    """
    spec = exclude_patterns(options.exclude)
    parts = path.split("/")
    if is_listed:
        if spec is not None and spec.match_file(path):
            return "it is excluded"
    elif any(part.startswith(".") for part in parts):
        return "it is hidden"
    elif _suffix(parts[-1]) not in IMAGE_SUFFIXES:
        return "its suffix is not that of an image format"
    elif any(_is_excluded(spec, name, path_to) for name, path_to in _ancestors(parts)):
        return "it is excluded"
    return LEADS_OUT if options.within_root and OutwardLinks(root).has(path) else ""


def _ancestors(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The name and the path of each folder above a file, with a slash at the end, and of the file."""
    for depth, name in enumerate(parts, start=1):
        path = "/".join(parts[:depth])
        yield name, path if depth == len(parts) else f"{path}/"


class OutwardLinks:
    """Tells which files a link leads out of a folder. Each sub-folder is resolved once.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._folders: dict[str, Path] = {}

    def has(self, path: str) -> bool:
        """Whether a file is outside the folder in truth.

        Args:
            path: path of the file relative to the folder, with forward slashes.
        """
        folder, _, name = path.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = Path(os.path.realpath(self._root / folder))  # `resolve` fails on loops
        file = real / name
        return not (Path(os.path.realpath(file)) if file.is_symlink() else file).is_relative_to(self._root)


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


def exclude_patterns(patterns: tuple[str, ...]) -> GitIgnoreSpec | None:
    """Compiles patterns of paths to leave out; None if there are none, which saves time for each file.

    Raises:
        GlamError: one of them is not a pattern of a ``.gitignore``.
    """
    try:
        return GitIgnoreSpec.from_lines(patterns) if patterns else None
    except ValueError as error:
        raise GlamError(f"A pattern to exclude is not valid: {error}. Write it as in a .gitignore.") from error


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
        self.real_root = root.resolve()
        self.options = options
        self.spec = exclude_patterns(options.exclude)
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
                    suffix = _suffix(entry.name)
                    if suffix in IMAGE_SUFFIXES:
                        yield ImageFile(path, landmark)
                    else:
                        self.formats[printable_path(suffix)] += 1
            pending.extend(reversed(folders))

    def _kind(self, entry: "os.DirEntry[str]", path: str) -> Literal["file", "folder", "linked folder"] | None:
        """What to do with an entry; None, with a note, if it is passed over."""
        is_link = False
        try:
            is_link = entry.is_symlink()
            is_folder = not is_link and entry.is_dir(follow_symlinks=False)
            if _is_excluded(self.spec, entry.name, f"{path}/" if is_folder else path):
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
        if is_folder and _is_excluded(self.spec, entry.name, f"{path}/"):
            self.excluded += 1
        elif self.options.within_root and not target.is_relative_to(self.real_root):
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
        elif self.options.within_root and not Path(os.path.realpath(entry.path)).is_relative_to(self.real_root):
            self._pass_link(path, LEADS_OUT)
        elif _suffix(entry.name) in IMAGE_SUFFIXES:
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


def _is_excluded(spec: GitIgnoreSpec | None, name: str, path: str) -> bool:
    """Whether a file or folder is excluded; the path of a folder ends with a slash."""
    if spec is not None:
        include = spec.check_file(path).include
        if include is not None:
            return include
    return name.lower() in SYSTEM_NAMES


def _suffix(name: str) -> str:
    """The suffix of a file name in lower case, with its dot; "" for none. `Path.suffix` takes five times as long."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""
