"""Source of an index: reads the folder or list that its images come from, as it was read before.

    build --read_images--> Collection          sync --read_source, with the recorded options--> Collection

`sync` removes images that the collection lacks, so a source that is gone or empty is an error.
"""

import errno
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from glam.datasets.collection import Collection, LandmarkFrom, ScanOptions
from glam.datasets.readers import is_list, read_collection
from glam.errors import GlamError
from glam.index.operations.image_files import is_gone, is_same_path
from glam.index.storage.catalog import Catalog
from glam.index.storage.migrations import open_catalog
from glam.index.storage.records import IndexConfig
from glam.index.storage.schema import NoIndexError

FILES_CHECKED = 1_000
"""Most listed files that are looked for until one exists. A list can name a million files; arbitrary."""

NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors that a line of text gives that is no path."""


def read_images(source: str | Path, options: ScanOptions = ScanOptions()) -> Collection:  # noqa: B008
    """Reads the images of a folder or a list for `glam.index.build`.

    Args:
        source: a folder, or a file that lists images.
        options: what to leave out, which links to follow, and what names the landmarks; by default the list if there
            is one, else nothing.

    Returns:
        The images, without those behind links that lead out of the folder.

    Raises:
        GlamError: there are none, or a list names no file that exists.
    """
    landmark_from = options.landmark_from or ("manifest" if is_list(source) else "none")
    collection = read_collection(source, replace(options, within_root=True, landmark_from=landmark_from))
    if not any(_may_be_file(collection.file(i)) for i in range(min(len(collection), FILES_CHECKED))):
        raise GlamError(
            f"{source} lists no file that exists, such as {collection.file(0)}. "
            "Give a folder of images, or a CSV manifest with a column 'path'."
        )
    return collection


def recorded_source(path: str | Path) -> Path | None:
    """The folder or list that `glam.index.sync` compares an index with, or None if there is no index yet.

    Args:
        path: folder of the index.

    Raises:
        GlamError: the index is damaged, or was written by a newer version.
    """
    try:
        catalog = open_catalog(Path(path))
    except NoIndexError:
        return None
    with closing(catalog):
        return _location(catalog.config)


def read_source(
    path: str | Path,
    source: str | Path | None = None,
    *,
    exclude: Sequence[str] | None = None,
    follow_links: bool | None = None,
    landmark_from: LandmarkFrom | None = None,
) -> Collection:
    """Reads the images of an index again, with the options that were used before.

    Args:
        path: folder of the index.
        source: folder or list to read; by default the one that the index was built from.
        exclude: patterns of the paths to leave out, where an empty one is ignored; by default those of the index.
        follow_links: whether links to folders are followed; by default as for the index.
        landmark_from: what names the landmark of an image; by default as for the index.

    Returns:
        The images. `glam.index.sync` records their source and options.

    Raises:
        GlamError: there is no index; the source is gone or has no images; or it no longer says what the landmarks and
            metadata of the index are.
    """
    index = Path(path)
    with closing(open_catalog(index)) as catalog:
        config = catalog.config
        recorded = _location(config)
        if source is None:
            source = recorded
            _check_recorded(index, catalog)
    options = ScanOptions() if config.source is None else config.source.options
    return read_images(
        source,
        ScanOptions(
            options.exclude if exclude is None else tuple(filter(None, exclude)),
            options.follow_links if follow_links is None else follow_links,
            landmark_from=landmark_from or _names_landmarks(index, source, config),
        ),
    )


def _location(config: IndexConfig) -> Path:
    """The recorded source of an index; its folder if it is of an earlier version."""
    return Path(config.root if config.source is None else config.source.location(config.root))


def _names_landmarks(index: Path, source: str | Path, config: IndexConfig) -> LandmarkFrom:
    """What names the landmarks in a source, unless the caller says so: the same as before, if it is as before.

    Raises:
        GlamError: the list is gone from the recorded folder.
    """
    recorded = config.source
    is_recorded = is_same_path(source, _location(config))
    if is_list(source):
        return recorded.landmark_from if recorded is not None and recorded.is_list and is_recorded else "manifest"
    if recorded is None:
        return "folder"
    if recorded.is_list and is_recorded:
        raise GlamError(
            f"{source} no longer has the list that {index} was built from. Restore the list, or choose what names "
            f"the landmarks: glam index sync {index} --landmark-from none"
        )
    return "none" if recorded.landmark_from == "manifest" else recorded.landmark_from


def _check_recorded(index: Path, catalog: Catalog) -> None:
    """Makes sure that an index can be synced with the folder or list that it was built from.

    Raises:
        GlamError: the folder no longer exists, or does not give the landmarks and metadata of the index.
    """
    config = catalog.config
    if is_gone(Path(config.root)):
        raise GlamError(
            f"{config.root}, the folder of {index}, no longer exists. If it moved, run "
            f"`glam index relocate {index} FOLDER`."
        )
    if config.source is None and not _names_landmarks_by_folder(catalog, Path(config.root)):
        raise GlamError(
            f"{index} has landmarks or metadata that its folder does not give. Give the list that has them: "
            f"glam index sync {index} LIST"
        )


def _names_landmarks_by_folder(catalog: Catalog, root: Path) -> bool:
    """Whether every image of an index is one that reading its folder gives: its sub-folder names the landmark, and
    there is no metadata. A sync with the folder would overwrite what a list said otherwise."""
    return is_list(root) or all(
        image.facts.landmark == image.facts.path.rpartition("/")[0] and image.facts.metadata in ("", "{}")
        for image in catalog.stored_images()
        if image.present
    )


def _may_be_file(path: Path) -> bool:
    """Whether there is a file at a path, or the system refuses to say."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return error.errno not in NO_FILE
    except ValueError:  # a NUL in the path
        return False
