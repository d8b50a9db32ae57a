"""Synchronization of the Milvus collection of an index with its folder.

Writer --put after each committed batch, update on closing--> MilvusCollection
Index --open_search--> MilvusSearch          verify --find_problems--> differences between the two
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.ann.exact import Exact
from glam.index.ann_cache import kind_for
from glam.index.limits import DEFAULT_LIMITS, IndexLimits, MilvusLimits
from glam.index.milvus.collection import APPROXIMATE, EXACT, MilvusCollection
from glam.index.milvus.search import MilvusSearch
from glam.index.storage.checksums import digest
from glam.index.storage.milvus_config import MilvusConfig
from glam.index.storage.records import IndexConfig
from glam.index.storage.snapshot import Snapshot
from glam.index.types import Descriptors, ImageIds

BLOCK = 10_000
"""Descriptors read from the folder at a time (arbitrary)."""

COMPARED = 1_000
"""Size of the sample of descriptors that `find_problems` compares (arbitrary)."""


class MilvusSync:
    """Updates the Milvus collection of an index, which it creates if it does not exist.

    Args:
        config: address and name of the Milvus collection, and its owner.
        index_config: configuration of the index.
        limits: limits of the index.

    Raises:
        GlamError: the server cannot be reached, or the Milvus collection belongs to another index.
    """

    def __init__(self, config: MilvusConfig, index_config: IndexConfig, limits: IndexLimits) -> None:
        self.config = config
        self._limits = limits
        self._collection = _open_collection(config, index_config, limits.milvus, make=True)

    def close(self) -> None:
        """Closes the connection."""
        self._collection.close()

    def put(self, image_ids: ImageIds, descriptors: Descriptors) -> None:
        """Inserts a committed batch.

        Args:
            image_ids: (n,) int64, ids of the images.
            descriptors: (n, dim) float32.
        """
        self._collection.put(image_ids, descriptors)

    def update(self, snapshot: Snapshot, index_config: IndexConfig) -> str:
        """Inserts missing images and deletes removed ones, so that the Milvus collection matches a snapshot.

        Args:
            snapshot: the images that the Milvus collection should hold.
            index_config: configuration of the index, which determines the kind of search structure.

        Returns:
            Digest of the image ids, by `digest_ids`.
        """
        held, present = self._collection.image_ids(), snapshot.image_ids
        missing = np.setdiff1d(present, held, assume_unique=True)
        descriptors = snapshot.descriptors_of(missing)
        for start in range(0, len(missing), BLOCK):
            self._collection.put(missing[start : start + BLOCK], descriptors[start : start + BLOCK])
        self._collection.delete(np.setdiff1d(held, present, assume_unique=True))
        self._collection.flush()
        exact = kind_for(index_config, len(present), self._limits) == Exact.kind
        self._collection.choose_structure(EXACT if exact else APPROXIMATE)
        return digest_ids(present)


@contextmanager
def sync_errors(index: Path) -> Iterator[None]:
    """Adds the state of the index to the message of a Milvus error.

    Args:
        index: folder of the index.

    Raises:
        GlamError: the call inside failed.
    """
    try:
        yield
    except GlamError as error:
        raise GlamError(
            f"{error} The changes are saved in {index}; the next command that writes to it updates Milvus."
        ) from error


def check_available(config: MilvusConfig, index_config: IndexConfig) -> None:
    """Checks that an index can use a Milvus collection, which may not exist yet.

    Args:
        config: address and name of the Milvus collection, and its owner.
        index_config: configuration of the index.

    Raises:
        GlamError: the server cannot be reached, or the Milvus collection belongs to another index.
    """
    collection = MilvusCollection(config)
    try:
        if collection.exists():
            collection.check(index_config.fingerprint, index_config.dim)
    finally:
        collection.close()


def open_search(
    config: MilvusConfig, index_config: IndexConfig, snapshot: Snapshot, limits: MilvusLimits
) -> tuple[MilvusSearch, MilvusCollection]:
    """Opens the Milvus collection of an index for searching.

    Args:
        config: address and name of the Milvus collection, and its owner.
        index_config: configuration of the index.
        snapshot: images that may be found.
        limits: limits on messages.

    Returns:
        The search structure, and the connection that the caller has to close.

    Raises:
        GlamError: the server cannot be reached, the Milvus collection does not exist or belongs to another index, or
            it lacks images whose descriptors are not in the snapshot either.
    """
    collection = _open_collection(config, index_config, limits)
    try:
        same = config.images == digest_ids(snapshot.image_ids)
        return MilvusSearch(collection, snapshot, snapshot.image_ids if same else collection.image_ids()), collection
    except BaseException:
        collection.close()
        raise


def find_problems(config: MilvusConfig, index_config: IndexConfig, snapshot: Snapshot) -> list[str]:
    """Compares the Milvus collection of an index with its folder: all ids, and a sample of the descriptors.

    Args:
        config: address and name of the Milvus collection, and its owner.
        index_config: configuration of the index.
        snapshot: images of the index.

    Returns:
        A description of each problem.

    Raises:
        GlamError: the server cannot be reached, or the Milvus collection does not exist or belongs to another index.
    """
    collection = _open_collection(config, index_config, DEFAULT_LIMITS.milvus)
    try:
        held = collection.image_ids()
        common = np.intersect1d(held, snapshot.image_ids, assume_unique=True)
        problems = []
        if missing := len(snapshot.image_ids) - len(common):
            problems.append(f"{missing} images are not in the Milvus {config}")
        if strays := len(held) - len(common):
            problems.append(f"{strays} rows in the Milvus {config} belong to no image")
        chosen = np.sort(np.random.default_rng().choice(common, min(COMPARED, len(common)), replace=False))
        stored = snapshot.descriptors_of(chosen)[0 : len(chosen)]
        found = collection.descriptors(chosen, index_config.dim)
        if others := int((stored != found).any(axis=1).sum()):
            problems.append(
                f"{others} of {len(chosen)} descriptors in the Milvus {config} differ from those in the folder; drop "
                "the Milvus collection, and the next writer creates it again"
            )
        return problems
    finally:
        collection.close()


def digest_ids(image_ids: ImageIds) -> str:
    """Digest of image ids (n,) in ascending order: BLAKE2b-128, 32 hexadecimal digits."""
    return digest(np.ascontiguousarray(image_ids, dtype="<i8").data)


def _open_collection(
    config: MilvusConfig, index_config: IndexConfig, limits: MilvusLimits, *, make: bool = False
) -> MilvusCollection:
    """Opens the Milvus collection of an index and loads it for searching; ``make`` creates it if it does not exist."""
    collection = MilvusCollection(config, limits)
    try:
        if collection.exists():
            collection.check(index_config.fingerprint, index_config.dim)
        elif make:
            collection.create(index_config.fingerprint, index_config.dim)
        else:
            raise GlamError(
                f"The Milvus {config} does not exist. Run `glam index sync` or another command that writes to the "
                "index; it creates the Milvus collection again."
            )
        collection.load()
    except BaseException:
        collection.close()
        raise
    return collection
