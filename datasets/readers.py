"""Reading a collection of images from whatever lists it.

A source is the file that lists the images, or a folder. What a file is, its contents say; a folder that holds one
of the known lists (`LISTS`) is read by it, any other by its sub-folders. `docs/datasets.md` tells it to users.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from glam.datasets import gldv2, sfm120k
from glam.datasets.collection import Collection, ImageFile
from glam.datasets.gldv2 import read_gldv2
from glam.datasets.manifest import read_manifest
from glam.datasets.pickles import read_plain_pickle
from glam.datasets.revisitop import read_list, read_revisited
from glam.datasets.sfm120k import read_sfm120k
from glam.datasets.tables import header_of
from glam.errors import GlamError
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
"""Lists that a folder is read by, the first that is there."""


def read_collection(source: Path | str) -> Collection:
    """Reads the images of a source.

    Args:
        source: a folder, or the file that lists the images; of SfM-120k with ``:train`` or ``:val`` after it.

    Raises:
        GlamError: there is no such source, it is of no known kind or damaged, or there is no image in it.
    """
    path, part = _split(source)
    listed = next((path / name for name in LISTS if (path / name).is_file()), path)
    if part and listed.suffix.lower() != ".pkl":
        raise GlamError(f"{path}: only SfM-120k has parts; leave out ':{part}'")
    collection = read_folder(path) if listed.is_dir() else _read_list_file(listed, part)
    if not len(collection):
        raise GlamError(f"{source}: no images in it")
    return collection


def read_folder(root: Path) -> Collection:
    """Reads a folder: each image file in it or below; the sub-folder that holds it names the landmark.

    Files are taken by their suffix and not opened; hidden files and folders are passed over.

    Raises:
        GlamError: there is no such folder.
    """
    if not root.is_dir():
        raise GlamError(f"{root}: no such folder")
    return Collection(root, tuple(_walk_images(root)))


def _split(source: Path | str) -> tuple[Path, str]:
    """The path and the part of it, "" for the whole."""
    path, _, part = str(source).rpartition(":")
    return (Path(path), part) if part in sfm120k.PARTS and not Path(source).exists() else (Path(source), "")


def _read_list_file(file: Path, part: str) -> Collection:
    if not file.is_file():
        raise GlamError(f"{file}: no such folder or file")
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
    raise GlamError(f"{file}: neither SfM-120k nor the ground truth of Revisited Oxford or Paris")


def _walk_images(root: Path) -> Iterator[ImageFile]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(folder).relative_to(root).as_posix()
        landmark = "" if relative == "." else relative
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield ImageFile(f"{landmark}/{name}" if landmark else name, landmark)
