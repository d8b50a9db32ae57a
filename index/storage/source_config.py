"""How the images of an index are found: the folder or list, the options of the scan, and what the last scan skipped.

build, sync --of--> SourceConfig, in the configuration of the index --> glam.index.operations.source.read_source
"""

import os
from dataclasses import dataclass
from pathlib import Path

from glam.datasets.collection import Collection, LandmarkFrom, ScanOptions, Skipped
from glam.datasets.scan_rules import ScanRules


@dataclass(frozen=True)
class SourceConfig:
    """The source of the images of an index.

    Attributes:
        path: folder or list; relative to the root of the index if it is in the root or above it, so that it moves with
            the root, else absolute.
        exclude: patterns of the paths that are left out.
        follow_links: whether links to folders are followed.
        landmark_from: what names the landmark of an image.
        is_list: whether the source is a list, or a folder with a list in it.
        skipped: what the last complete scan passed over.
    """

    path: str
    exclude: tuple[str, ...]
    follow_links: bool
    landmark_from: LandmarkFrom
    is_list: bool
    skipped: Skipped

    @classmethod
    def of(cls, collection: Collection) -> "SourceConfig | None":
        """The source of a collection; None if the caller put its images together."""
        if collection.source is None:
            return None
        options = collection.options
        landmark_from = options.landmark_from or ("manifest" if collection.is_list else "folder")
        path = _portable(collection.source, collection.root.resolve())
        return cls(path, options.exclude, options.follow_links, landmark_from, collection.is_list, collection.skipped)

    @property
    def options(self) -> ScanOptions:
        """The options to scan the source with again."""
        return ScanOptions(self.exclude, self.follow_links, within_root=True, landmark_from=self.landmark_from)

    def rules(self, root: Path) -> ScanRules:
        """Tells which files the next scan of the source passes over.

        Args:
            root: root folder of the index.
        """
        return ScanRules(root, self.options, is_list=self.is_list)

    def location(self, root: str) -> str:
        """The source on this machine.

        Args:
            root: root folder of the index.
        """
        return os.path.normpath(f"{root}/{self.path}") if not self.path.startswith("/") else self.path


def _portable(source: Path, root: Path) -> str:
    """The path of a source, relative to the root if one of the two is below the other."""
    absolute = source.parent.resolve() / source.name if source.name else source.resolve()
    if source.is_dir():
        absolute = source.resolve()
    if absolute.is_relative_to(root) or root.is_relative_to(absolute):
        return os.path.relpath(absolute, root)
    return str(absolute)
