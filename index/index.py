"""Searching an index.

    Index.open --> take_snapshot: the images of one moment --> ann_cache.open_cached or build_structure
    Index.search --> filters.matching: which may be found --> Structure.search --> Catalog.entries --> hits

An `Index` shows the index as it was when it was opened, whatever a writer does meanwhile; open another to see the new.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.ann import DescriptorSource, Structure, build_structure
from glam.index.ann.confidence import Calibration
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank.base import Query
from glam.index.rerank_store.database import IndexDatabase, OpenIndex, RerankStore
from glam.index.rerank_store.knn_graph import SnapshotSearch
from glam.index.storage.catalog import Catalog, Entry
from glam.index.storage.filters import matching
from glam.index.storage.migrations import open_catalog
from glam.index.storage.snapshot import take_snapshot
from glam.index.types import Descriptors, ImageIds, Mask, Rows, Scores

if TYPE_CHECKING:
    from glam.index.milvus.collection import MilvusCollection
    from glam.index.rerank.chain import Chain
    from glam.model import Model

NEAR_GUESS = 32
"""How many results `Index.within` asks for before it asks for all."""

FILTERS_KEPT = 16
"""Conditions whose images an `Index` remembers: a byte per image each."""

Found = tuple[Scores, ImageIds]
"""Scores and image ids found by one query, best first."""


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        rank: from 1.
        score: cosine of query and image, in [-1, 1].
        entry: the image.
        confidence: how likely it is that the best of as many unrelated images scores lower, in [0, 1]; None where the
            index has too few images to tell.
        image_id, path, landmark: those of ``entry``.
    """

    rank: int
    score: float
    entry: Entry
    confidence: float | None = None

    @property
    def image_id(self) -> int:
        """Number of the image in the catalog."""
        return self.entry.image_id

    @property
    def path(self) -> str:
        """Path of the image, relative to the root of the index."""
        return self.entry.path

    @property
    def landmark(self) -> str:
        """What the image shows; empty if unknown."""
        return self.entry.landmark


class Index:
    """An index opened for searching. Any number of threads may use it.

    Attributes:
        path: its folder.
        model_name: what its model was loaded by.
        fingerprint: of that model.
        dim: length of a descriptor.
        size, scales: its images were described at.
        root: folder that its images' paths are relative to.
        image_ids: (n,), of its images, rising.
    """

    def __init__(self, path: Path, catalog: Catalog, limits: IndexLimits) -> None:
        config = catalog.config
        self.path = path
        self.model_name = config.model
        self.fingerprint = config.fingerprint
        self.dim = config.dim
        self.size = config.size
        self.scales = config.scales
        self.root = Path(config.root)
        self._config = config
        self._catalog = catalog
        self._lock = Lock()
        self._limits = limits
        self._snapshot = take_snapshot(path, catalog)
        self.image_ids = self._snapshot.image_ids
        self._collection: MilvusCollection | None = None
        self._structure, self._structure_ids = self._open_structure()
        self._descriptors: DescriptorSource = self._open_descriptors()
        rows = self._snapshot.rows_of(self._structure_ids)
        self._present: Mask | None = None if (rows >= 0).all() else rows >= 0
        snapshot_search = SnapshotSearch(self._structure, rows)
        self._open_index = OpenIndex(
            path, self.root, catalog, self._lock, self.image_ids, self._descriptors, snapshot_search, limits
        )
        self._store = RerankStore(self._open_index)
        self._matching = lru_cache(FILTERS_KEPT)(self._ask_filter)

    @classmethod
    def open(cls, path: str | Path, *, limits: IndexLimits = DEFAULT_LIMITS) -> "Index":
        """Opens an index.

        Args:
            path: its folder.
            limits: sizes and times at which it changes how it works.

        Raises:
            GlamError: there is none, it is damaged or of a newer version, or Milvus searches it and cannot be used.
        """
        catalog = open_catalog(Path(path))
        try:
            return cls(Path(path), catalog, limits)
        except BaseException:
            catalog.close()
            raise

    def __len__(self) -> int:
        return len(self.image_ids)

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the catalog, and of Milvus."""
        self._catalog.close()
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    @property
    def structure(self) -> str:
        """Kind of the structure that is searched: one of `glam.index.ann.KINDS`, or ``milvus``."""
        return self._structure.kind

    def check_model(self, model: "Model") -> None:
        """Makes sure that descriptors of ``model`` can be compared with those in the index.

        Raises:
            GlamError: it is another model than the index was built with.
        """
        self._config.check_model(self.path, model)

    def search(
        self,
        descriptors: NDArray[np.float32],
        k: int | None = 10,
        *,
        where: str | None = None,
        threshold: float | None = None,
    ) -> list[list[Hit]]:
        """The nearest images, by cosine, for each query.

        Args:
            descriptors: (q, dim), or (dim,) for one query, float32 of unit length.
            k: how many; fewer come back when fewer can be found. None, with a threshold: all.
            where: a condition on the images (`glam.index.storage.filters`), as ``city = 'Paris' and year > 2010``;
                only those that meet it can be found.
            threshold: least cosine of a result.

        Returns:
            For each query its hits, best first.

        Raises:
            GlamError: the descriptors are of another length than the index's, or the condition cannot be understood.
        """
        if k is None and threshold is None:
            raise ValueError("k or threshold has to be given")
        allowed = None if where is None else self._matching(where)
        queries = self._queries(descriptors)
        if k is not None:
            found = self._nearest(queries, k, threshold, allowed)
        else:
            assert threshold is not None
            found = [self._all_within(query, threshold, allowed) for query in queries]
        searched = len(self) if allowed is None else int(allowed.sum())
        return [self._hits(scores, image_ids, searched) for scores, image_ids in found]

    def search_reranked(
        self,
        query: Query,
        chain: "Chain",
        k: int | None = 10,
        *,
        where: str | None = None,
        threshold: float | None = None,
    ) -> list[Hit]:
        """The images that a chain of reranking steps puts first.

        Args:
            query: its descriptor (dim,), and what gives its local features, where a step wants them.
            chain: as `glam.index.rerank.chain.parse_chain` makes it.
            k: as in `search`.
            where: likewise; what it leaves out is in no list.
            threshold: likewise, of the cosine with the query.

        Returns:
            Its hits in the order of the chain. Their scores are still cosines with the query, so they need not fall.

        Raises:
            GlamError: as `search`; or the query or the index lacks what a step needs.
        """
        if k is None and threshold is None:
            raise ValueError("k or threshold has to be given")
        descriptor = self._queries(query.descriptor)[0]
        allowed = None if where is None else self._matching(where)
        database = IndexDatabase(self._open_index, self._store, allowed)
        most = len(self) if k is None else k
        near = np.ones(len(self), dtype=np.bool_)  # which images are above the threshold, by row
        if threshold is not None:
            near[:] = False
            near[self._snapshot.rows_of(self._all_within(descriptor, threshold, allowed)[1])] = True
            most = min(most, int(near.sum()))
        length = max(most, 1)
        while True:  # once, mostly; again where the chain put others before some that are above the threshold
            found = chain.search(query, database, length).rows
            found = found[near[found]]
            if len(found) >= most or length >= len(self):
                break
            length *= 4
        found = found[:most]
        searched = len(self) if allowed is None else int(allowed.sum())
        return self._hits(self._descriptors[found] @ descriptor, self.image_ids[found], searched)

    def database(self, where: str | None = None) -> IndexDatabase:
        """What reranking steps may ask of the index; results are images that meet a condition.

        Raises:
            GlamError: the condition cannot be understood.
        """
        return IndexDatabase(self._open_index, self._store, None if where is None else self._matching(where))

    def within(self, descriptors: NDArray[np.float32], threshold: float) -> list[Found]:
        """All images with a cosine of at least ``threshold``, for each query: (q, dim) or (dim,)."""
        queries = self._queries(descriptors)
        few = self._nearest(queries, NEAR_GUESS, threshold, None)
        return [
            found if len(found[0]) < NEAR_GUESS else self._all_within(query, threshold, None)
            for query, found in zip(queries, few, strict=True)
        ]

    def entry(self, image_id: int) -> Entry:
        """The image with this id.

        Raises:
            KeyError: there is none.
        """
        return self.entries([image_id])[0]

    def entries(self, image_ids: Sequence[int]) -> tuple[Entry, ...]:
        """The images with these ids, in this order.

        Raises:
            KeyError: one of them is not there.
        """
        self._rows_of(image_ids)
        found = self._read_entries(image_ids)
        return tuple(found[image_id] for image_id in image_ids)

    def file(self, image_id: int) -> Path:
        """Where the image with this id lies on disk.

        Raises:
            KeyError: there is none.
        """
        return self.root / self.entry(image_id).path

    def descriptor(self, image_id: int) -> NDArray[np.float32]:
        """(dim,): the descriptor of the image with this id.

        Raises:
            KeyError: there is none.
        """
        descriptor: NDArray[np.float32] = self.descriptors([image_id])[0]
        return descriptor

    def descriptors(self, image_ids: Sequence[int]) -> Descriptors:
        """(n, dim): the descriptors of the images with these ids.

        Raises:
            KeyError: one of them is not there.
        """
        descriptors = np.array(self._descriptors[self._rows_of(image_ids)])
        gone = ~descriptors.any(axis=1)  # removed since, and compacted away
        if gone.any():
            raise KeyError(image_ids[int(np.flatnonzero(gone)[0])])
        return descriptors

    def local_features(self, image_id: int) -> LocalFeatures | None:
        """The local features of the image with this id, stored or extracted now; None if its file is unreadable."""
        return self._store.local_features(image_id)

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that could not be read when the index was built."""
        with self._lock:
            return self._catalog.unreadable()

    def landmark_count(self) -> int:
        """How many landmarks are named among its images."""
        with self._lock:
            return self._catalog.landmark_count()

    def _open_structure(self) -> tuple[Structure, ImageIds]:
        """What finds the nearest images, and the image id of each of its rows."""
        config = self._config.milvus
        if config is not None:
            from glam.index.milvus.sync import open_search

            search, self._collection = open_search(config, self._config, self._snapshot, self._limits.milvus)
            return search, self.image_ids
        kind = ann_cache.kind_for(self._config, len(self.image_ids), self._limits)
        return ann_cache.open_cached(self.path, self._snapshot) or (
            build_structure(self._snapshot.descriptors_of(self.image_ids), kind),
            self.image_ids,
        )

    def _open_descriptors(self) -> DescriptorSource:
        """The descriptors of its images: from the folder, or from Milvus where the folder has none."""
        if self._collection is not None and self._snapshot.is_bare:
            from glam.index.milvus.search import FetchedDescriptors

            return FetchedDescriptors(self._collection, self.image_ids, self.dim)
        return self._snapshot.descriptors_of(self.image_ids)

    def _rows_of(self, image_ids: Sequence[int]) -> Rows:
        """The row of each image, its index in ``Index.image_ids``; a `KeyError` for one that is not there."""
        wanted = np.array(image_ids, dtype=np.int64)
        rows = self._snapshot.rows_of(wanted)
        if (rows < 0).any():
            raise KeyError(int(wanted[rows < 0][0]))
        return rows

    def _read_entries(self, image_ids: Sequence[int]) -> dict[int, Entry]:
        with self._lock:
            return self._catalog.entries(image_ids)

    def _queries(self, descriptors: NDArray[np.float32]) -> Descriptors:
        queries = np.atleast_2d(np.ascontiguousarray(descriptors, dtype=np.float32))
        if queries.shape[1] != self.dim:
            raise GlamError(f"descriptors of length {queries.shape[1]} cannot search an index of length {self.dim}")
        return queries

    def _ask_filter(self, where: str) -> Mask:
        """Which rows of the structure meet a condition."""
        with self._lock:
            image_ids = matching(self._catalog.connection, where)
        allowed = np.isin(self._structure_ids, image_ids)
        return allowed if self._present is None else allowed & self._present

    def _nearest(self, queries: Descriptors, k: int, threshold: float | None, allowed: Mask | None) -> list[Found]:
        """The ``k`` nearest for each query; an image that the snapshot does not have is not found."""
        if not len(self):
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        found = self._structure.search(queries, min(k, len(self)), self._present if allowed is None else allowed)
        least = -np.inf if threshold is None else threshold
        results = []
        for scores, rows in zip(*found, strict=True):
            kept = (rows >= 0) & (scores >= least)
            results.append((scores[kept], self._structure_ids[rows[kept]]))
        return results

    def _all_within(self, query: Descriptors, threshold: float, allowed: Mask | None) -> Found:
        scores, rows = self._structure.range_search(query, threshold, self._present if allowed is None else allowed)
        return scores, self._structure_ids[rows]

    @cached_property
    def _calibration(self) -> Calibration | None:
        return Calibration.fit(self._descriptors)

    def _hits(self, scores: Scores, image_ids: ImageIds, searched: int) -> list[Hit]:
        """Results with their entries, of a search among so many images."""
        entries = self._read_entries(image_ids.tolist())
        confidence = (
            [None] * len(image_ids)
            if self._calibration is None or not searched
            else (self._calibration.confidence(scores, searched).tolist())
        )
        # One that was removed since, and compacted away, has no entry any more.
        kept = [
            (score, entries[image_id], sure)
            for score, image_id, sure in zip(scores.tolist(), image_ids.tolist(), confidence, strict=True)
            if image_id in entries
        ]
        return [Hit(rank, *hit) for rank, hit in enumerate(kept, start=1)]
