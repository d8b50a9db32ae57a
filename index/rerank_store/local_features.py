"""Local features of the images in an index: extracted from their files, and stored in the folder `rerank/`.

    Writer.add, precompute --features_of each file--> write_features --> rerank/000001.features
    Index --StoredFeatures.get, or features_of if they are not stored--> LocalFeatures

A file holds a head for each image, followed by the features of all images in the same order. Values are stored without
rounding, so stored and newly extracted features give the same ranking.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glam.errors import ImageError
from glam.images import read_image, read_regular_file
from glam.index.local_matching.rootsift import CONTRAST, LENGTH, MOST, SIZE, LocalFeatures, extract
from glam.index.rerank_store.files import LOCAL_FEATURES, StoreFile, register_file, store_files, write_store_file
from glam.index.storage.catalog import Catalog
from glam.index.storage.checksums import digest
from glam.index.storage.records import FileFacts
from glam.index.types import ImageIds, rows_of_ids
from glam.parallel_map import parallel_map

RECIPE = f"upright RootSIFT, at most {MOST} at {SIZE} pixels, contrast {CONTRAST}"
"""Recipe of the files. It must change whenever the result of `extract` changes."""

HEAD = np.dtype([("count", "<u4"), ("scale", "<f8")])
"""Head of an image in a file: number of its features, and `LocalFeatures.scale`."""

FEATURE = np.dtype([("point", "<f4", (2,)), ("diameter", "<f4"), ("descriptor", "u1", (LENGTH,))])
"""A local feature in a file; see `LocalFeatures`."""

FILE_IMAGES = 4_096
"""Most images per file (arbitrary): 240 MB of features."""


CHECKED_BYTES = 32 << 20
"""Largest file whose digest is compared before it is used (arbitrary): 30 ms of work. `verify` compares all."""


class Packed(NamedTuple):
    """The features of n images, as they are stored in a file.

    Attributes:
        heads: (n,) of type `HEAD`.
        features: (m,) of type `FEATURE`, the features of all images one after another.
    """

    heads: NDArray[np.void]
    features: NDArray[np.void]

    @property
    def begins(self) -> NDArray[np.int64]:
        """(n + 1,) int64: index of the first feature of each image, and the total number of features."""
        return np.concatenate([[0], np.cumsum(self.heads["count"], dtype=np.int64)])


DecodeGate: TypeAlias = Callable[[bytes], AbstractContextManager[object]]
"""Returns a context manager inside which the content of an image file is decoded. It may wait, or refuse."""


def features_of(root: Path, facts: FileFacts, gate: DecodeGate = nullcontext) -> LocalFeatures | None:
    """Extracts the local features of an image in an index from its file.

    Args:
        root: folder that the path of the image is relative to.
        facts: facts of the file; if they contain no hash, any content is accepted.
        gate: decodes the image inside this; if it raises an `ImageError`, the file counts as unreadable.

    Returns:
        The local features; None if the file cannot be read or its content has changed.
    """
    try:
        data = read_regular_file(root / facts.path)
        if facts.hash and digest(data) != facts.hash:
            return None
        with gate(data):
            return extract(read_image(data))
    except (OSError, ImageError):
        return None


def features_of_all(root: Path, files: Sequence[FileFacts]) -> Iterator[LocalFeatures | None]:
    """Extracts the local features of images in threads; see `features_of`.

    Args:
        root: folder that the paths of the images are relative to.
        files: facts of the files.

    Returns:
        The result of `features_of` for each file, in the order of ``files``.
    """
    threads = max(2, os.cpu_count() or 2)
    return parallel_map(partial(features_of, root), files, threads=threads, ahead=4 * threads, name="features")


def pack(images: Sequence[LocalFeatures]) -> Packed:
    """Packs the local features of images into the format of a file."""
    heads = np.array([(len(image), image.scale) for image in images], dtype=HEAD)
    features = np.empty(sum(map(len, images)), dtype=FEATURE)
    if len(features):
        features["point"] = np.concatenate([image.points for image in images])
        features["diameter"] = np.concatenate([image.diameters for image in images])
        features["descriptor"] = np.concatenate([image.descriptors for image in images])
    return Packed(heads, features)


def usable_files(catalog: Catalog) -> list[StoreFile]:
    """The files of local features with the current recipe, ordered by number."""
    return [file for file in store_files(catalog, LOCAL_FEATURES) if file.recipe == RECIPE]


@dataclass(frozen=True)
class NewFeatures:
    """A file of local features that is not registered in the catalog yet.

    Attributes:
        file: the file. Its ``image_ids`` lack those of the new images, which get their ids in the same transaction.
        has_features: (n,) booleans, which of the n new images have features in the file.
        replaced: files whose content is included in the file.
    """

    file: StoreFile
    has_features: NDArray[np.bool_]
    replaced: list[StoreFile]

    def register(self, catalog: Catalog, image_ids: ImageIds) -> None:
        """Registers the file in the catalog. Call it inside `Catalog.transaction`.

        Args:
            catalog: catalog of the index.
            image_ids: (n,) int64, ids of the new images.
        """
        stored = np.append(self.file.image_ids, image_ids[self.has_features])
        register_file(catalog, self.file._replace(image_ids=stored), self.replaced)


def write_features(index: Path, catalog: Catalog, new: Sequence[LocalFeatures | None]) -> NewFeatures | None:
    """Writes local features to a file, and merges smaller files into it to limit the number of files.

    Args:
        index: folder of the index.
        catalog: its catalog.
        new: local features of images that have none stored; None for an image without features.

    Returns:
        The file, to be registered; None if no image has features.
    """
    found = [features for features in new if features is not None]
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
    return NewFeatures(file, np.array([features is not None for features in new]), replaced)


def rewrite_without(index: Path, catalog: Catalog, gone: ImageIds) -> list[tuple[StoreFile | None, StoreFile]]:
    """Rewrites the files that hold local features of removed images without these features.

    Args:
        index: folder of the index.
        catalog: its catalog.
        gone: (n,) int64, ids of the removed images.

    Returns:
        Pairs of a new file, to be registered, and the file that it replaces. The new file is None if no features are
        left.

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
    """Memory-maps a file of local features.

    Args:
        index: folder of the index.
        file: the file.

    Raises:
        FileNotFoundError: the file does not exist.
        GlamError: the file does not have the right size.
    """
    path, end = file.path(index), HEAD.itemsize * len(file.image_ids)
    size = path.stat().st_size
    if size >= end > 0 and (size - end) % FEATURE.itemsize == 0:
        data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        packed = Packed(data[:end].view(HEAD), data[end:].view(FEATURE))
        if packed.begins[-1] == len(packed.features) and np.isfinite(packed.heads["scale"]).all():
            return packed
    raise file.damaged()


class StoredFeatures:
    """The local features stored in an index, memory-mapped. Any number of threads may use it.

    Args:
        index: folder of the index.
        catalog: its catalog, used only by the constructor.

    Attributes:
        image_ids: (n,) int64, ids of the images with stored features, in ascending order.

    Raises:
        GlamError: a file is damaged.
    """

    def __init__(self, index: Path, catalog: Catalog) -> None:
        self._files: list[Packed] = []
        self._begins: list[NDArray[np.int64]] = []
        image_ids, locations = [np.empty(0, np.int64)], [np.empty((0, 2), np.int64)]
        for file in usable_files(catalog):
            try:
                if file.path(index).stat().st_size <= CHECKED_BYTES and not file.is_sound(index):
                    raise file.damaged()
                packed = read_features(index, file)
            except FileNotFoundError:  # a writer has just replaced it, or this is a copy of the index without it
                continue
            image_ids.append(file.image_ids)
            count = len(file.image_ids)
            locations.append(np.stack([np.full(count, len(self._files)), np.arange(count)], axis=1))
            self._files.append(packed)
            self._begins.append(packed.begins)
        order = np.argsort(np.concatenate(image_ids), kind="stable")
        self.image_ids: ImageIds = np.concatenate(image_ids)[order]
        self._locations: NDArray[np.int64] = np.concatenate(locations)[order]  # (n, 2): file, and position in the file

    def get(self, image_id: int) -> LocalFeatures | None:
        """The stored local features of an image.

        Args:
            image_id: id of the image.

        Returns:
            The local features as they were extracted; None if they are not stored.
        """
        (row,) = rows_of_ids(self.image_ids, np.array([image_id])).tolist()
        if row < 0:
            return None
        file, position = self._locations[row]
        packed, begins = self._files[file], self._begins[file]
        features = packed.features[begins[position] : begins[position + 1]]
        return LocalFeatures(
            np.ascontiguousarray(features["point"]),
            np.ascontiguousarray(features["diameter"]),
            np.ascontiguousarray(features["descriptor"]),
            float(packed.heads["scale"][position]),
        )
