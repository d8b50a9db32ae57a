"""Readers of image collections.

A source is a folder or a file that lists images. The format of a file is detected from its content. If a folder
contains one of the known lists (`LISTS`), the list is read; otherwise each sub-folder is a landmark. `docs/datasets.md`
describes the formats.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from glam.datasets import gldv2, sfm120k
from glam.datasets.collection import Collection, ImageFile, Skipped
from glam.datasets.gldv2 import read_gldv2
from glam.datasets.manifest import read_manifest
from glam.datasets.pickles import read_plain_pickle
from glam.datasets.revisitop import read_list, read_revisited
from glam.datasets.sfm120k import read_sfm120k
from glam.datasets.tables import header_of
from glam.errors import GlamError, system_reason
from glam.images import IMAGE_SUFFIXES

LISTS = (
    "manifest.csv",
    "train_clean.csv",
    "train.csv",
    "retrieval-SfM-120k.pkl",
    "gnd_roxford5k.pkl",
    "gnd_rparis6k.pkl",
    "revisitop1m.txt",
)
"""Names of the lists that are looked for in a folder; the first one found is read."""


def read_collection(source: Path | str) -> Collection:
    """Reads the list of images of a source. No image file is opened.

    Args:
        source: a folder, or a file that lists images. For SfM-120k, append ``:train`` or ``:val``.

    Raises:
        GlamError: the source does not exist, has an unknown format, is damaged, or contains no images.
    """
    path, part = _split(source)
    listed = next((path / name for name in LISTS if (path / name).is_file()), path)
    if part and listed.suffix.lower() != ".pkl":
        raise GlamError(f"{path}: only SfM-120k has parts. Remove ':{part}'.")
    collection = read_folder(path) if listed.is_dir() else _read_list_file(listed, part)
    if not len(collection) and collection.skipped.unlisted:
        folder, reason = collection.skipped.unlisted[0]
        raise GlamError(f"{listed / folder} could not be listed: {reason}. Make the folder readable, and try again.")
    if not len(collection):
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise GlamError(f"{source} contains no images. Choose a folder or a list of files of these types: {suffixes}.")
    return collection


def read_folder(root: Path) -> Collection:
    """Lists all image files in a folder and its sub-folders. The sub-folder of an image is its landmark.

    Images are recognized by their suffixes and not opened. Hidden files and folders are skipped. Folders that cannot be
    listed are in `Collection.skipped`.

    Args:
        root: the folder.

    Raises:
        GlamError: the folder does not exist.
    """
    if not root.is_dir():
        raise GlamError(f"{root}: no such folder. Check the path.")
    unlisted: list[tuple[str, str]] = []
    images = tuple(_walk_images(root, unlisted))
    return Collection(root, images, Skipped(unlisted=tuple(unlisted)), root)


def _split(source: Path | str) -> tuple[Path, str]:
    """Splits a source into its path and its part ("train" or "val"; "" if none is given)."""
    path, _, part = str(source).rpartition(":")
    return (Path(path), part) if part in sfm120k.PARTS and not Path(source).exists() else (Path(source), "")


def _read_list_file(file: Path, part: str) -> Collection:
    if not file.is_file():
        raise GlamError(f"{file}: no such file or folder. Check the path.")
    kind = file.suffix.lower()
    if kind == ".pkl":
        return _read_pickle(file, part)
    if kind == ".txt":
        return read_list(file)
    if header_of(file) in (gldv2.CLEAN_HEADER, gldv2.FULL_HEADER):
        return read_gldv2(file)
    return read_manifest(file)


def _read_pickle(file: Path, part: str) -> Collection:
    table = read_plain_pickle(file)
    if isinstance(table, dict) and set(sfm120k.PARTS) <= table.keys():
        return read_sfm120k(table, file, part)
    if isinstance(table, dict) and "imlist" in table and not part:
        return read_revisited(table, file)
    raise GlamError(
        f"{file} is neither SfM-120k nor the ground truth of Revisited Oxford or Paris. "
        "Choose a folder of images or a CSV manifest."
    )


def _walk_images(root: Path, unlisted: list[tuple[str, str]]) -> Iterator[ImageFile]:
    """Yields the images below a folder; appends path and reason of each folder that it cannot list to ``unlisted``."""

    def note(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # those have vanished during the scan
            path = Path(str(error.filename)).relative_to(root).as_posix()
            unlisted.append((path, system_reason(error)))

    for folder, folders, files in os.walk(root, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root).as_posix()
        landmark = "" if relative == "." else relative
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield ImageFile(f"{landmark}/{name}" if landmark else name, landmark)
