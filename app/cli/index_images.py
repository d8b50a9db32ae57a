"""The images that an index is built from: of a folder or list, or of the folder that the index itself names."""

from pathlib import Path

from glam.app.cli import terminal
from glam.datasets.collection import Collection
from glam.datasets.readers import LISTS, read_collection
from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.migrations import open_catalog

FILES_CHECKED = 1_000
"""Most listed files that are looked for until one exists. A list can name a million files; arbitrary."""


def read_images(source: Path) -> Collection:
    """The images of a folder or a list.

    Raises:
        GlamError: there are none, or a list names no file that exists.
    """
    collection = read_collection(source)
    if not any(collection.file(i).is_file() for i in range(min(len(collection), FILES_CHECKED))):
        raise GlamError(
            f"{source} lists no file that exists, such as {collection.file(0)}. "
            "Give a folder of images, or a CSV manifest with a column 'path'."
        )
    return collection


def read_own_images(index: Path) -> Collection:
    """The images of the folder that an index was built from.

    Raises:
        GlamError: the folder no longer exists, or the index was built from a list.
    """
    catalog = open_catalog(index)
    try:
        root, follows_folders = Path(catalog.config.root), _follows_folders(catalog)
    finally:
        catalog.close()
    if not root.is_dir():
        raise GlamError(
            f"{root}, the folder of {index}, no longer exists. Give the folder that it moved to: "
            f"glam index sync {index} FOLDER"
        )
    collection = read_images(root)
    if not any((root / name).is_file() for name in LISTS) and not follows_folders:
        raise GlamError(
            f"{index} has landmarks or metadata that its folder does not give. Give the list that has them: "
            f"glam index sync {index} LIST"
        )
    terminal.note(f"Comparing {index} with {root}.")
    return collection


def _follows_folders(catalog: Catalog) -> bool:
    """Whether every image of an index is one that reading its folder gives: its sub-folder names the landmark, and
    there is no metadata. A sync with the folder would overwrite what a list said otherwise."""
    return all(
        image.facts.landmark == image.facts.path.rpartition("/")[0] and image.facts.metadata in ("", "{}")
        for image in catalog.stored_images()
        if image.present
    )
