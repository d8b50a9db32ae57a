"""The images that an index is built from and synced with: those of a folder or list, or of the recorded source."""

from dataclasses import replace
from pathlib import Path

from glam.app.cli import terminal
from glam.datasets.collection import Collection, LandmarkFrom, ScanOptions
from glam.datasets.readers import LISTS, is_list, read_collection
from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.migrations import open_catalog
from glam.index.storage.records import IndexConfig

FILES_CHECKED = 1_000
"""Most listed files that are looked for until one exists. A list can name a million files; arbitrary."""


def read_images(source: str | Path, options: ScanOptions) -> Collection:
    """The images of a folder or a list that may be indexed. A folder names no landmarks unless the options say so.

    Raises:
        GlamError: there are none, or a list names no file that exists.
    """
    landmark_from = options.landmark_from or ("manifest" if is_list(source) else "none")
    collection = read_collection(source, replace(options, within_root=True, landmark_from=landmark_from))
    if not any(collection.file(i).is_file() for i in range(min(len(collection), FILES_CHECKED))):
        raise GlamError(
            f"{source} lists no file that exists, such as {collection.file(0)}. "
            "Give a folder of images, or a CSV manifest with a column 'path'."
        )
    return collection


def read_images_again(
    index: Path,
    source: Path | None,
    exclude: list[str] | None,
    follow_links: bool | None,
    landmark_from: LandmarkFrom | None,
) -> Collection:
    """The images to sync an index with, found as when it was built, where the arguments are None.

    Raises:
        GlamError: the source no longer exists, or has no images; or the index has none, and its folder does not give
            its landmarks or metadata.
    """
    catalog = open_catalog(index)
    try:
        config = catalog.config
        recorded = Path(config.root if config.source is None else config.source.location(config.root))
        if source is None:
            source = recorded
            _check_own_source(index, config, catalog)
            terminal.note(f"Comparing {index} with {source}.")
    finally:
        catalog.close()
    options = ScanOptions(landmark_from="folder") if config.source is None else config.source.options
    if is_list(source):
        names = options.landmark_from if source.resolve() == recorded.resolve() else "manifest"
    else:
        names = "none" if options.landmark_from == "manifest" else options.landmark_from
    return read_images(
        source,
        ScanOptions(
            options.exclude if exclude is None else tuple(filter(None, exclude)),
            options.follow_links if follow_links is None else follow_links,
            landmark_from=landmark_from or names,
        ),
    )


def _check_own_source(index: Path, config: IndexConfig, catalog: Catalog) -> None:
    """Makes sure that an index can be synced with the folder or list that it was built from.

    Raises:
        GlamError: the folder no longer exists, or does not give the landmarks and metadata of the index.
    """
    if not Path(config.root).is_dir():
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
    return any((root / name).is_file() for name in LISTS) or all(
        image.facts.landmark == image.facts.path.rpartition("/")[0] and image.facts.metadata in ("", "{}")
        for image in catalog.stored_images()
        if image.present
    )
