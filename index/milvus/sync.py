"""The collection of an index kept what the folder says.

Writer --put: each batch, once it is committed; renew: whatever else differs, as it closes--> Collection
Index --load--> Searched          verify --check--> what is wrong with the collection
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.ann.exact import Exact
from glam.index.ann_cache import wanted_kind
from glam.index.limits import DEFAULT_LIMITS, IndexLimits, MilvusLimits
from glam.index.milvus.collection import APPROXIMATE, EXACT, Collection
from glam.index.milvus.search import Searched
from glam.index.storage.catalog import About
from glam.index.storage.digests import digest
from glam.index.storage.milvus_config import Place
from glam.index.storage.snapshot import Snapshot
from glam.index.types import Numbers, Rows

BLOCK = 10_000
"""Rows read from the folder at a time."""

COMPARED = 1_000
"""Descriptors that `check` compares with those in the folder."""


class Mirror:
    """The writer's side of a collection; made if it is not there.

    Args:
        place: where it is.
        about: of the index.
        limits: of the index.

    Raises:
        GlamError: the server cannot be used, or the collection is another's.
    """

    def __init__(self, place: Place, about: About, limits: IndexLimits) -> None:
        self.place = place
        self._limits = limits
        self._collection = _opened(place, about, limits.milvus, make=True)

    def close(self) -> None:
        """Lets go of the server."""
        self._collection.close()

    def put(self, ids: Numbers, rows: Rows) -> None:
        """Puts in a batch that is committed: ids (n,), descriptors (n, dim)."""
        self._collection.put(ids, rows)

    def renew(self, snapshot: Snapshot, about: About) -> str:
        """Makes the collection hold the images of the snapshot and no others; returns the digest of their ids."""
        held, wanted = self._collection.ids(), snapshot.ids
        missing = np.setdiff1d(wanted, held, assume_unique=True)
        rows = snapshot.stored(missing)
        for start in range(0, len(missing), BLOCK):
            self._collection.put(missing[start : start + BLOCK], rows[start : start + BLOCK])
        self._collection.delete(np.setdiff1d(held, wanted, assume_unique=True))
        self._collection.settle()
        exact = wanted_kind(about, len(wanted), self._limits) == Exact.kind
        self._collection.choose(EXACT if exact else APPROXIMATE)
        return digest_ids(wanted)


@contextmanager
def keeping(index: Path) -> Iterator[None]:
    """Says with an error of Milvus what became of the index in the folder ``index``."""
    try:
        yield
    except GlamError as error:
        raise GlamError(
            f"{error}; {index} keeps all that was done, and any later command that writes brings Milvus up to date"
        ) from error


def check_free(place: Place, about: About) -> None:
    """Makes sure that an index can have its collection there.

    Raises:
        GlamError: the server cannot be used, or the collection is another's.
    """
    collection = Collection(place)
    try:
        if collection.exists():
            collection.check(about.fingerprint, about.dim)
    finally:
        collection.close()


def load(about: About, place: Place, snapshot: Snapshot, limits: MilvusLimits) -> tuple[Searched, Collection]:
    """Opens the collection of an index for searching the images of a snapshot.

    Raises:
        GlamError: the server cannot be used, or the collection is not there or another's.
    """
    collection = _opened(place, about, limits)
    try:
        same = place.images == digest_ids(snapshot.ids)
        return Searched(collection, snapshot, snapshot.ids if same else collection.ids()), collection
    except BaseException:
        collection.close()
        raise


def check(about: About, place: Place, snapshot: Snapshot) -> list[str]:
    """What is wrong with the collection of an index, a sentence each; a sample of its descriptors is compared.

    Raises:
        GlamError: as `load`.
    """
    collection = _opened(place, about, DEFAULT_LIMITS.milvus)
    try:
        held = collection.ids()
        common = np.intersect1d(held, snapshot.ids, assume_unique=True)
        wrong = []
        if missing := len(snapshot.ids) - len(common):
            wrong.append(f"{missing} images are not in the {place}")
        if strays := len(held) - len(common):
            wrong.append(f"{strays} rows in the {place} are of no image")
        chosen = np.sort(np.random.default_rng().choice(common, min(COMPARED, len(common)), replace=False))
        stored, found = snapshot.stored(chosen)[0 : len(chosen)], collection.rows(chosen, about.dim)
        if others := int((stored != found).any(axis=1).sum()):
            wrong.append(
                f"{others} of {len(chosen)} descriptors in the {place} are not those in the folder; drop it, and the "
                "next writer fills it anew"
            )
        return wrong
    finally:
        collection.close()


def digest_ids(ids: Numbers) -> str:
    """32 hexadecimal digits that stand for these ids, rising."""
    return digest(np.ascontiguousarray(ids, dtype="<i8").data)


def _opened(place: Place, about: About, limits: MilvusLimits, *, make: bool = False) -> Collection:
    """The collection of an index, ready to be searched."""
    collection = Collection(place, limits)
    try:
        if collection.exists():
            collection.check(about.fingerprint, about.dim)
        elif make:
            collection.create(about.fingerprint, about.dim)
        else:
            raise GlamError(f"there is no {place}; any command that writes to the index fills it again")
        collection.load()
    except BaseException:
        collection.close()
        raise
    return collection
