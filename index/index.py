"""An index, opened for searching.

    Index.open --> IndexReader: the images of one moment --> ann_cache.open_or_build
    Index.search --plain---------------------------> Index.nearest --> Structure.search --> FAISS or Milvus
                 --re-ranked--> Chain.search, steps --> Index.nearest, neighbors, local features

Scores and rows come back, (k,) each; a row is an index into `Index.image_ids`. `Index.search` makes hits of them.
An `Index` shows the index as it was when it was opened, whatever a writer does meanwhile; open another to see the new.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.ann import Structure, build_gpu_structure
from glam.index.ann.confidence import Calibration
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank.base import Neighbors, Query
from glam.index.rerank.chain import Chain, parse_chain
from glam.index.rerank.queries import as_queries
from glam.index.rerank_store.store import RerankStore
from glam.index.storage.catalog import Catalog, Entry
from glam.index.storage.filters import matching
from glam.index.storage.migrations import open_catalog
from glam.index.storage.reader import IndexReader
from glam.index.types import Descriptors, ImageIds, Mask, Rows, Scores

if TYPE_CHECKING:
    from glam.index.milvus.collection import MilvusCollection

NEAR_GUESS = 32
"""How many results `Index.within` asks for before it asks for all."""

FILTERS_KEPT = 16
"""Conditions whose images an `Index` remembers: a byte per image each."""


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


class Index(IndexReader):
    """An index opened for searching. Any number of threads may use it.

    Attributes:
        device: the device that searches it. The other attributes are those of `IndexReader`.
    """

    def __init__(self, path: Path, catalog: Catalog, limits: IndexLimits, device: str = "cpu") -> None:
        super().__init__(path, catalog)
        self._limits = limits
        self.device = device
        self._collection: MilvusCollection | None = None
        self._structure, self._structure_ids = self._open_structure()
        self._structure_rows = self._snapshot.rows_of(self._structure_ids)  # the row of each of its rows in `matrix`
        self._present: Mask | None = None if (self._structure_rows >= 0).all() else self._structure_rows >= 0
        self._store = RerankStore(path, self.root, catalog, self._lock)
        self._matching = lru_cache(FILTERS_KEPT)(self._ask_filter)

    @classmethod
    def open(cls, path: str | Path, *, limits: IndexLimits = DEFAULT_LIMITS, device: str | None = None) -> "Index":
        """Opens an index for searching; `close` it, or use it in a ``with`` block.

        Args:
            path: its folder.
            limits: sizes and times at which it changes how it works.
            device: device that searches, for example ``cuda``; the CPU by default.

        Returns:
            The index as it is now: ``len(index)`` images, ``index.image_ids`` (n,), ``index.matrix`` (n, dim).

        Raises:
            GlamError: there is none, it is damaged or of a newer version, or Milvus searches it and cannot be used.
        """
        catalog = open_catalog(Path(path))
        try:
            return cls(Path(path), catalog, limits, device or "cpu")
        except BaseException:
            catalog.close()
            raise

    def close(self) -> None:
        """Closes the catalog, and the connection to Milvus."""
        super().close()
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    @property
    def structure(self) -> str:
        """Kind of the structure that is searched: one of `glam.index.ann.KINDS`, or ``milvus``."""
        return self._structure.kind

    def search(
        self,
        queries: ArrayLike | Query | Sequence[Query],
        k: int | None = 10,
        *,
        where: str | None = None,
        threshold: float | None = None,
        rerank: str | Chain | None = None,
    ) -> list[list[Hit]]:
        """The nearest images by cosine, or those that re-ranking puts first, for each query.

        Args:
            queries: (dim,) for one query or (q, dim), floating point, of unit length; or one or several `Query` objects
                with a descriptor (dim,) each, which may also hold local features for ``rerank="geometric"``.
            k: most hits per query, at least 1. None, with a threshold: all.
            where: filter expression (`glam.index.storage.filters`), as in ``city = 'Paris' and year > 2010``; only
                images that meet it are found.
            threshold: lowest cosine of a hit with the query, in [-1, 1].
            rerank: re-ranking steps, as in ``"aqe,diffusion"`` or ``"default"``; see docs/reranking.md.

        Returns:
            One list per query: up to ``k`` hits, best first. With ``rerank`` they are in the order of its last step;
            their scores are still cosines with the query, so they need not decrease.

        Raises:
            GlamError: an argument is invalid, or the query or the index lacks what a re-ranking step needs.
        """
        if k is None and threshold is None:
            raise GlamError("neither k nor threshold is given; give one of them")
        if k is not None and k < 1:
            raise GlamError(f"k is {k}; give at least 1, or None with a threshold for all hits above it")
        if threshold is not None and not -1 <= threshold <= 1:
            raise GlamError(f"the threshold is {threshold}; scores are cosines, so give a number from -1 to 1")
        chain = parse_chain(rerank) if isinstance(rerank, str) else rerank
        asked = as_queries(queries, self.dim)
        allowed = self._allowed(where)
        found: list[tuple[Scores, Rows]] = []
        if chain is not None:
            for query in asked:
                accepted, most = None, len(self) if k is None else k
                if threshold is not None:
                    accepted = np.zeros(len(self), dtype=np.bool_)
                    accepted[self._nearest_above(query.descriptor, threshold, allowed)[1]] = True
                    most = min(most, int(accepted.sum()))
                rows = chain.search(replace(query, allowed=allowed), self, most, accepted).rows
                found.append((self.matrix[rows] @ query.descriptor, rows))
        elif k is not None and asked:
            found = _cut(*self.nearest(np.stack([query.descriptor for query in asked]), k, allowed), threshold)
        elif threshold is not None:
            found = [self._nearest_above(query.descriptor, threshold, allowed) for query in asked]
        return [self._hits(scores, rows, allowed) for scores, rows in found]

    def within(self, descriptors: Descriptors, threshold: float) -> list[tuple[Scores, Rows]]:
        """All images with a cosine of at least ``threshold``.

        Args:
            descriptors: (q, dim) float32 of unit length.
            threshold: lowest cosine, in [-1, 1].

        Returns:
            For each query scores and rows (indices into ``image_ids``), best first.
        """
        few = _cut(*self.nearest(descriptors, NEAR_GUESS, self._present), threshold)
        return [
            found if len(found[0]) < NEAR_GUESS else self._nearest_above(query, threshold, self._present)
            for query, found in zip(descriptors, few, strict=True)
        ]

    def nearest(self, queries: Descriptors, k: int, allowed: Mask | None) -> tuple[Scores, Rows]:
        """The one search of the index, plain and re-ranked; see `glam.index.rerank.base.Database.nearest`.

        Args:
            queries: (q, dim) float32 of unit length.
            k: most results per query.
            allowed: `Query.allowed`: rows of the search structure, which may also hold images removed since.

        Returns:
            Cosines (q, m), best first, and rows (q, m) of ``matrix``, m <= k; -inf and -1 where a query has fewer.
        """
        most = min(k, len(self))
        if not most:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, found = self._structure.search(queries, most, allowed)
        return scores, np.where(found < 0, -1, self._structure_rows[found])

    def neighbors(self, rows: Rows) -> Neighbors:
        """See `glam.index.rerank.base.Database.neighbors`; a small index computes what the stored graph lacks."""
        search = partial(self.nearest, allowed=self._present)
        graph = self._store.graph(self.image_ids, self.matrix, search, self._limits.linked_in_memory)
        return Neighbors(graph.rows[rows].astype(np.int64), np.array(graph.scores[rows]))

    def local_features_in_row(self, row: int) -> LocalFeatures | None:
        """See `glam.index.rerank.base.Database.local_features_in_row`."""
        return self._store.local_features(int(self.image_ids[row]))

    def local_features(self, image_id: int) -> LocalFeatures | None:
        """The local features of the image with this id, stored or extracted now; None if its file is unreadable."""
        return self._store.local_features(image_id)

    def _open_structure(self) -> tuple[Structure, ImageIds]:
        """The structure that finds the nearest images, and the image_id of each of its rows; ``matrix`` becomes that of
        Milvus where the folder holds no descriptors."""
        config = self._config.milvus
        if config is not None:
            from glam.index.milvus.search import FetchedDescriptors
            from glam.index.milvus.sync import open_search

            search, self._collection = open_search(config, self._config, self._snapshot, self._limits.milvus)
            if self._snapshot.is_bare:
                self.matrix = FetchedDescriptors(self._collection, self.image_ids, self.dim)
            return search, self.image_ids
        if self.device != "cpu":
            on_gpu = build_gpu_structure(self.matrix, self.device, self._limits.gpu_rows)
            if on_gpu is not None:
                return on_gpu, self.image_ids
        return ann_cache.open_or_build(self.path, self._snapshot, self._config, self._limits)

    def _allowed(self, where: str | None) -> Mask | None:
        """Which rows of the structure may be results: of present images that meet the condition; None for all."""
        return self._present if where is None else self._matching(where)

    def _ask_filter(self, where: str) -> Mask:
        with self._lock:
            image_ids = matching(self._catalog.connection, where)
        allowed = np.isin(self._structure_ids, image_ids)
        return allowed if self._present is None else allowed & self._present

    def _nearest_above(self, query: Descriptors, threshold: float, allowed: Mask | None) -> tuple[Scores, Rows]:
        """Scores and rows of all images with a cosine of at least ``threshold``, best first."""
        scores, found = self._structure.range_search(query, threshold, allowed)
        return scores, self._structure_rows[found]

    @cached_property
    def _calibration(self) -> Calibration | None:
        return Calibration.fit(self.matrix)

    def _hits(self, scores: Scores, rows: Rows, allowed: Mask | None) -> list[Hit]:
        """Results with their entries, of a search among the allowed images."""
        image_ids = self.image_ids[rows]
        searched = len(self) if allowed is None else int(np.count_nonzero(allowed))
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


def _cut(scores: Scores, rows: Rows, threshold: float | None) -> list[tuple[Scores, Rows]]:
    """The results of each query, (q, k) scores and rows, without empty places and scores below the threshold."""
    kept = (rows >= 0) & (scores >= (-np.inf if threshold is None else threshold))
    return [(some[keep], at[keep]) for some, at, keep in zip(scores, rows, kept, strict=True)]
