"""Scan rules: which files a scan of a folder, or the reading of a list, passes over, and why.

ScanOptions --> ScanRules, once per scan --is_excluded, leads_out, reason--> scan, lists, `glam.index.add`, uploads
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

from glam.datasets.collection import ScanOptions
from glam.errors import GlamError
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

EXCLUDED, LEADS_OUT = "it is excluded", "it leads out of the folder"
"""Reasons for passing over a file."""


class ScanRules:
    """Tells why a file is passed over. Patterns are compiled and each sub-folder is resolved once.

    Args:
        root: the folder that paths are relative to.
        options: the options of the scan.
        is_list: whether a list has the images, so that any name will do.

    Raises:
        GlamError: an excluded pattern is not a pattern of a ``.gitignore``.
    """

    def __init__(self, root: Path, options: ScanOptions, *, is_list: bool = False) -> None:
        self._root = root.resolve()
        self._within_root = options.within_root
        self._is_list = is_list
        self._folders: dict[str, Path] = {}
        try:
            # No pattern is no specification, which saves time for each file.
            self._spec = GitIgnoreSpec.from_lines(options.exclude) if options.exclude else None
        except ValueError as error:
            raise GlamError(f"A pattern to exclude is not valid: {error}. Write it as in a .gitignore.") from error

    def reason(self, path: str) -> str:
        """Why an image file is passed over, such as "it is hidden"; "" if it is not.

        Args:
            path: path of the file relative to the root, with forward slashes.
        """
        parts = path.split("/")
        if self._is_list:
            if self._spec is not None and self._spec.match_file(path):
                return EXCLUDED
        elif any(part.startswith(".") for part in parts):
            return "it is hidden"
        elif suffix(parts[-1]) not in IMAGE_SUFFIXES:
            return "its suffix is not that of an image format"
        elif any(self.is_excluded(name, path_to) for name, path_to in _ancestors(parts)):
            return EXCLUDED
        return LEADS_OUT if self._within_root and self.leads_out(self._target(path)) else ""

    def is_excluded(self, name: str, path: str) -> bool:
        """Whether a file or folder is excluded by a pattern, or is one that a system adds.

        Args:
            name: its name.
            path: its path relative to the root; that of a folder ends with a slash.
        """
        if self._spec is not None:
            include = self._spec.check_file(path).include
            if include is not None:
                return include
        return name.lower() in SYSTEM_NAMES

    def leads_out(self, target: Path) -> bool:
        """Whether a file is passed over because it is outside the root.

        Args:
            target: where the file is, with links followed.
        """
        return self._within_root and not target.is_relative_to(self._root)

    def _target(self, path: str) -> Path:
        """Where a file is, with links followed."""
        folder, _, name = path.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = Path(os.path.realpath(self._root / folder))  # `resolve` fails on loops
        file = real / name
        try:
            return Path(os.path.realpath(file)) if file.is_symlink() else file
        except OSError:  # such as a name that is too long; opening the file will tell why
            return file


def suffix(name: str) -> str:
    """The suffix of a file name in lower case, with its dot; "" for none. `Path.suffix` takes five times as long.

    Args:
        name: the name, without a folder.
    """
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _ancestors(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The name and the path of each folder above a file, with a slash at the end, and of the file."""
    for depth, name in enumerate(parts, start=1):
        path = "/".join(parts[:depth])
        yield name, path if depth == len(parts) else f"{path}/"
