"""Local features of the images of an index: made from their files, or kept in the folder rerank/.

    Writer.add, precompute --features_of each file--> write_features --> rerank/000001.features
    Index --StoredFeatures.get--> LocalFeatures, exactly as they were made; features_of, where they are not kept

A file of features has a head for each image, then the features of all images in their order. Numbers stay as they were
computed, so that what is kept and what is made on the spot give the same list.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.errors import ImageError
from glam.images import read_image
from glam.index.local_matching.rootsift import CONTRAST, LENGTH, MOST, SIZE, LocalFeatures, extract
from glam.index.rerank_store.files import LOCAL_FEATURES, StoreFile, register_file, store_files, write_store_file
from glam.index.storage.catalog import Catalog, FileFacts
from glam.index.storage.checksums import digest
from glam.index.types import ImageIds, rows_of_ids
from glam.parallel_map import parallel_map

RECIPE = f"upright RootSIFT, at most {MOST} at {SIZE} pixels, contrast {CONTRAST}"
"""Has to change whenever `extract` gives something else: what was kept by another recipe is not used."""

HEAD = np.dtype([("count", "<u4"), ("scale", "<f8")])

FEATURE = np.dtype([("point", "<f4", (2,)), ("diameter", "<f4"), ("descriptor", "u1", (LENGTH,))])

FILE_IMAGES = 4_096
"""Most images of a file: 240 MB of features."""


class Packed(NamedTuple):
    """The features of some images: heads (n,) of `HEAD`, and one after another the features (m,) of `FEATURE`."""

    heads: NDArray[np.void]
    features: NDArray[np.void]

    @property
    def begins(self) -> NDArray[np.int64]:
        """(n + 1,): where the features of each image begin, and where the last ones end."""
        return np.concatenate([[0], np.cumsum(self.heads["count"], dtype=np.int64)])


def features_of(root: Path, facts: FileFacts) -> LocalFeatures | None:
    """The features of an image of an index; None where its file cannot be read or has another content now.

    Args:
        root: folder that the path is relative to.
        facts: of the image; of one without a hash any content counts.
    """
    try:
        data = (root / facts.path).read_bytes()
        return extract(read_image(data)) if not facts.hash or digest(data) == facts.hash else None
    except (OSError, ImageError):
        return None


def features_of_all(root: Path, files: Sequence[FileFacts]) -> Iterator[LocalFeatures | None]:
    """`features_of` for the file of each image, made in threads."""
    threads = max(2, os.cpu_count() or 2)
    return parallel_map(partial(features_of, root), files, threads=threads, ahead=2 * threads, name="features")


def pack(images: Sequence[LocalFeatures]) -> Packed:
    """The features of these images, as they lie in a file."""
    heads = np.array([(len(image), image.scale) for image in images], dtype=HEAD)
    features = np.empty(sum(map(len, images)), dtype=FEATURE)
    if len(features):
        features["point"] = np.concatenate([image.points for image in images])
        features["diameter"] = np.concatenate([image.diameters for image in images])
        features["descriptor"] = np.concatenate([image.descriptors for image in images])
    return Packed(heads, features)


def usable_files(catalog: Catalog) -> list[StoreFile]:
    """The files of features that were made as this version makes them."""
    return [file for file in store_files(catalog, LOCAL_FEATURES) if file.recipe == RECIPE]


@dataclass(frozen=True)
class NewFeatures:
    """A file of features that does not count yet.

    Attributes:
        file: lacks the ids of the images that are new in it, at the end of its ids.
        made: (n,) which of the images that are being added have features there.
        replaced: the files that it replaces.
    """

    file: StoreFile
    made: NDArray[np.bool_]
    replaced: list[StoreFile]

    def register(self, catalog: Catalog, image_ids: ImageIds) -> None:
        """Makes it count, in the transaction that is open.

        Args:
            catalog: of the index.
            image_ids: (n,), of the images that are being added.
        """
        stored = np.append(self.file.image_ids, image_ids[self.made])
        register_file(catalog, self.file._replace(image_ids=stored), self.replaced)


def write_features(index: Path, catalog: Catalog, made: Sequence[LocalFeatures | None]) -> NewFeatures | None:
    """Writes features to a file, with those of smaller files before, so that there are never many files.

    Args:
        index: its folder.
        catalog: of the index.
        made: of images whose features are not kept; None for those that have none, and nothing is written of nothing.
    """
    found = [features for features in made if features is not None]
    if not found:
        return None
    files = usable_files(catalog)
    first, count = len(files), len(found)
    while first and count >= len(files[first - 1].image_ids) and count + len(files[first - 1].image_ids) <= FILE_IMAGES:
        first -= 1
        count += len(files[first].image_ids)
    replaced = [file for file in files[first:] if file.is_sound(index)]
    parts = [*(read_features(index, file) for file in replaced), pack(found)]
    image_ids = np.concatenate([np.empty(0, np.int64), *(file.image_ids for file in replaced)])
    heads, features = ([part[i] for part in parts] for i in (0, 1))
    file = write_store_file(index, catalog, LOCAL_FEATURES, RECIPE, image_ids, [*heads, *features])
    return NewFeatures(file, np.array([features is not None for features in made]), replaced)


def rewrite_without(index: Path, catalog: Catalog, gone: ImageIds) -> list[tuple[StoreFile | None, StoreFile]]:
    """Rewrites each file that holds features of removed images, without these.

    Args:
        index: its folder.
        catalog: of the index.
        gone: (n,) ids of the removed images.

    Returns:
        The new files, which do not count yet, each with the one that it is to replace; None where nothing is left.

    Raises:
        GlamError: a file is damaged.
    """
    written: list[tuple[StoreFile | None, StoreFile]] = []
    for file in store_files(catalog, LOCAL_FEATURES):
        stays = ~np.isin(file.image_ids, gone)
        if stays.all():
            continue
        new = None
        if stays.any():
            if not file.is_sound(index):
                raise file.damaged()
            packed = read_features(index, file)
            features = packed.features[np.repeat(stays, packed.heads["count"])]
            parts = [packed.heads[stays], features]
            new = write_store_file(index, catalog, LOCAL_FEATURES, file.recipe, file.image_ids[stays], parts)
        written.append((new, file))
    return written


def read_features(index: Path, file: StoreFile) -> Packed:
    """The features in a file, memory-mapped.

    Raises:
        FileNotFoundError: it is not there.
        GlamError: it has another length than it should have.
    """
    path, end = file.path(index), HEAD.itemsize * len(file.image_ids)
    size = path.stat().st_size
    if size >= end and (size - end) % FEATURE.itemsize == 0:
        data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        packed = Packed(data[:end].view(HEAD), data[end:].view(FEATURE))
        if packed.begins[-1] == len(packed.features):
            return packed
    raise file.damaged()


class StoredFeatures:
    """The features that are kept in an index. Any number of threads may ask for them.

    Args:
        index: its folder.
        catalog: of the index; used only while this is made.

    Raises:
        GlamError: a file is damaged.
    """

    def __init__(self, index: Path, catalog: Catalog) -> None:
        self._files: list[Packed] = []
        self._begins: list[NDArray[np.int64]] = []
        image_ids, locations = [np.empty(0, np.int64)], [np.empty((0, 2), np.int64)]
        for file in usable_files(catalog):
            try:
                packed = read_features(index, file)
            except FileNotFoundError:  # a writer replaced it just now, or this is a copy without it
                continue
            image_ids.append(file.image_ids)
            count = len(file.image_ids)
            locations.append(np.stack([np.full(count, len(self._files)), np.arange(count)], axis=1))
            self._files.append(packed)
            self._begins.append(packed.begins)
        order = np.argsort(np.concatenate(image_ids), kind="stable")
        self.image_ids: ImageIds = np.concatenate(image_ids)[order]
        self._locations: NDArray[np.int64] = np.concatenate(locations)[order]  # (n, 2): file, and place in the file

    def get(self, image_id: int) -> LocalFeatures | None:
        """The features of the image with this id; None where they are not kept."""
        (row,) = rows_of_ids(self.image_ids, np.array([image_id])).tolist()
        if row < 0:
            return None
        file, place = self._locations[row]
        packed, begins = self._files[file], self._begins[file]
        features = packed.features[begins[place] : begins[place + 1]]
        return LocalFeatures(
            np.ascontiguousarray(features["point"]),
            np.ascontiguousarray(features["diameter"]),
            np.ascontiguousarray(features["descriptor"]),
            float(packed.heads["scale"][place]),
        )
