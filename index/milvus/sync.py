"""Updates of the Milvus collection of an index, so that it holds what the folder holds.

Writer --put: each batch, once it is committed; update: whatever else differs, as it closes--> MilvusCollection
Index --open_search--> MilvusSearch          verify --find_problems--> what is wrong with the collection
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
from glam.index.storage.catalog import IndexConfig
from glam.index.storage.checksums import digest
from glam.index.storage.milvus_config import MilvusConfig
from glam.index.storage.snapshot import Snapshot
from glam.index.types import Descriptors, ImageIds

BLOCK = 10_000
"""Descriptors read from the folder at a time."""

COMPARED = 1_000
"""Descriptors that `find_problems` compares with those in the folder."""


class MilvusSync:
    """The writer's side of a collection; made if it is not there.

    Args:
        config: where it is, and whose.
        index_config: of the index.
        limits: of the index.

    Raises:
        GlamError: the server cannot be used, or the collection is another's.
    """

    def __init__(self, config: MilvusConfig, index_config: IndexConfig, limits: IndexLimits) -> None:
        self.config = config
        self._limits = limits
        self._collection = _open_collection(config, index_config, limits.milvus, make=True)

    def close(self) -> None:
        """Lets go of the server."""
        self._collection.close()

    def put(self, image_ids: ImageIds, descriptors: Descriptors) -> None:
        """Puts in a batch that is committed: ids (n,), descriptors (n, dim)."""
        self._collection.put(image_ids, descriptors)

    def update(self, snapshot: Snapshot, index_config: IndexConfig) -> str:
        """Makes the collection hold the images of the snapshot and no others; returns the digest of their ids."""
        held, wanted = self._collection.image_ids(), snapshot.image_ids
        missing = np.setdiff1d(wanted, held, assume_unique=True)
        descriptors = snapshot.descriptors_of(missing)
        for start in range(0, len(missing), BLOCK):
            self._collection.put(missing[start : start + BLOCK], descriptors[start : start + BLOCK])
        self._collection.delete(np.setdiff1d(held, wanted, assume_unique=True))
        self._collection.flush()
        exact = kind_for(index_config, len(wanted), self._limits) == Exact.kind
        self._collection.choose_structure(EXACT if exact else APPROXIMATE)
        return digest_ids(wanted)


@contextmanager
def sync_errors(index: Path) -> Iterator[None]:
    """Adds to an error of Milvus what became of the index in the folder ``index``."""
    try:
        yield
    except GlamError as error:
        raise GlamError(
            f"{error}; {index} keeps all that was done, and any later command that writes brings Milvus up to date"
        ) from error


def check_available(config: MilvusConfig, index_config: IndexConfig) -> None:
    """Makes sure that an index can have its collection there.

    Raises:
        GlamError: the server cannot be used, or the collection is another's.
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
    """Opens the collection of an index for searching the images of a snapshot.

    Raises:
        GlamError: the server cannot be used, or the collection is not there or another's.
    """
    collection = _open_collection(config, index_config, limits)
    try:
        same = config.images == digest_ids(snapshot.image_ids)
        return MilvusSearch(collection, snapshot, snapshot.image_ids if same else collection.image_ids()), collection
    except BaseException:
        collection.close()
        raise


def find_problems(config: MilvusConfig, index_config: IndexConfig, snapshot: Snapshot) -> list[str]:
    """What is wrong with the collection of an index, a sentence each; a sample of its descriptors is compared.

    Raises:
        GlamError: as `open_search`.
    """
    collection = _open_collection(config, index_config, DEFAULT_LIMITS.milvus)
    try:
        held = collection.image_ids()
        common = np.intersect1d(held, snapshot.image_ids, assume_unique=True)
        wrong = []
        if missing := len(snapshot.image_ids) - len(common):
            wrong.append(f"{missing} images are not in the {config}")
        if strays := len(held) - len(common):
            wrong.append(f"{strays} rows in the {config} are of no image")
        chosen = np.sort(np.random.default_rng().choice(common, min(COMPARED, len(common)), replace=False))
        stored = snapshot.descriptors_of(chosen)[0 : len(chosen)]
        found = collection.descriptors(chosen, index_config.dim)
        if others := int((stored != found).any(axis=1).sum()):
            wrong.append(
                f"{others} of {len(chosen)} descriptors in the {config} are not those in the folder; drop it, and the "
                "next writer fills it anew"
            )
        return wrong
    finally:
        collection.close()


def digest_ids(image_ids: ImageIds) -> str:
    """32 hexadecimal digits that stand for these ids, rising."""
    return digest(np.ascontiguousarray(image_ids, dtype="<i8").data)


def _open_collection(
    config: MilvusConfig, index_config: IndexConfig, limits: MilvusLimits, *, make: bool = False
) -> MilvusCollection:
    """The collection of an index, ready to be searched."""
    collection = MilvusCollection(config, limits)
    try:
        if collection.exists():
            collection.check(index_config.fingerprint, index_config.dim)
        elif make:
            collection.create(index_config.fingerprint, index_config.dim)
        else:
            raise GlamError(f"there is no {config}; any command that writes to the index fills it again")
        collection.load()
    except BaseException:
        collection.close()
        raise
    return collection
