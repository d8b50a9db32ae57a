"""An index opened for searching.

    Index.open --> IndexReader: a snapshot of the images --> ann_cache.open_or_build
    Index.search --plain---------------------------> Index.nearest --> Structure.search --> FAISS or Milvus
                 --re-ranked--> Chain.search, steps --> Index.nearest, neighbors, local features

Each search returns scores and rows, (k,) each, where a row is an index into `Index.image_ids`; `Index.search` turns
them into hits. An `Index` keeps showing the images it had when it was opened, whatever a writer does meanwhile. Open
the index again to see later changes.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import Lock
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
from glam.index.rerank_store.local_features import DecodeGate
from glam.index.rerank_store.store import RerankStore
from glam.index.storage.catalog import Catalog
from glam.index.storage.errors import storage_errors
from glam.index.storage.filters import matching
from glam.index.storage.migrations import open_catalog
from glam.index.storage.reader import IndexReader
from glam.index.storage.records import Entry
from glam.index.types import Descriptors, ImageIds, Mask, Rows, Scores

if TYPE_CHECKING:
    from glam.index.milvus.collection import MilvusCollection

FIRST_RESULTS = 32
"""Results that `Index.within` asks for before it runs a range search (arbitrary; few images have more duplicates)."""

FILTERS_CACHED = 16
"""Size of the LRU cache of filter masks (arbitrary); a mask takes one byte per image."""


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        rank: position in the list of hits, from 1.
        score: cosine similarity of query and image, in [-1, 1].
        entry: the catalog entry of the image.
        confidence: probability in [0, 1] that the best of equally many unrelated images would score lower; None if
            the index has too few images to estimate it.
    """

    rank: int
    score: float
    entry: Entry
    confidence: float | None = None

    @property
    def image_id(self) -> int:
        """Id of the image in the catalog."""
        return self.entry.image_id

    @property
    def path(self) -> str:
        """Path of the image relative to the root of the index, with forward slashes."""
        return self.entry.path

    @property
    def landmark(self) -> str:
        """Landmark that the image shows; empty if unknown."""
        return self.entry.landmark


class Index(IndexReader):
    """An index opened for searching. Any number of threads may use it.

    `Index.open` creates it. It has the attributes of `glam.index.storage.reader.IndexReader` and one more.

    Attributes:
        device: device that searches, as PyTorch names it, for example ``cpu`` or ``cuda:0``.
    """

    def __init__(self, path: Path, catalog: Catalog, limits: IndexLimits, device: str = "cpu") -> None:
        super().__init__(path, catalog)
        self._limits = limits
        self.device = device
        self._collection: MilvusCollection | None = None
        self._structure, self._structure_ids = self._open_structure()
        self._structure_rows = self._snapshot.rows_of(self._structure_ids)  # row in `matrix` of each structure row
        self._present: Mask | None = None if (self._structure_rows >= 0).all() else self._structure_rows >= 0
        self._store = RerankStore(path, self.root, catalog, self._lock)
        self._filter_catalog = catalog.another(path)  # so that filters delay no other reader
        self._filter_lock = Lock()  # guards it
        self._cached_mask = lru_cache(FILTERS_CACHED)(self._evaluate_filter)

    @classmethod
    def open(cls, path: str | Path, *, limits: IndexLimits = DEFAULT_LIMITS, device: str | None = None) -> "Index":
        """Opens an index for searching. Close it with `close`, or use it in a ``with`` block.

        Args:
            path: folder of the index.
            limits: limits of the index, such as the number of images from which a GPU is used.
            device: device that searches, for example ``cuda``; the CPU by default.

        Returns:
            A snapshot of the index: ``len(index)`` images, ``index.image_ids`` (n,), ``index.matrix`` (n, dim).

        Raises:
            GlamError: there is no index, it is damaged or written by a newer version, the device cannot be used, or
                the index uses Milvus and the server cannot be reached.
        """
        with storage_errors(Path(path)):
            catalog = open_catalog(Path(path))
            try:
                return cls(Path(path), catalog, limits, device or "cpu")
            except BaseException:
                catalog.close()
                raise

    def close(self) -> None:
        """Stops filters, and closes the catalog and the connection to Milvus."""
        with suppress(sqlite3.ProgrammingError):  # closed already
            self._filter_catalog.connection.interrupt()
        with self._filter_lock:
            self._filter_catalog.close()
        super().close()
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    @property
    def structure(self) -> str:
        """Kind of the search structure: one of `glam.index.ann.KINDS`, or ``milvus``."""
        return self._structure.kind

    def search(
        self,
        queries: ArrayLike | Query | Sequence[Query],
        k: int | None = 10,
        *,
        where: str | Mask | None = None,
        threshold: float | None = None,
        rerank: str | Chain | None = None,
    ) -> list[list[Hit]]:
        """Searches for the images with the highest cosine similarity to each query, and optionally re-ranks them.

        Args:
            queries: descriptors of unit length, (dim,) for one query or (q, dim), floating point; or one `Query` or
                several, with a descriptor (dim,) each, which may also hold local features for ``rerank="geometric"``.
            k: most hits per query, at least 1; None returns all hits that reach the threshold.
            where: filter expression such as ``city = 'Paris' and year > 2010`` (`glam.index.storage.filters`), or the
                result of `filter_mask`; only images that meet it are found.
            threshold: lowest score of a hit, in [-1, 1].
            rerank: re-ranking steps, such as ``"aqe,diffusion"`` or ``"default"``; see docs/rerank.md.

        Returns:
            One list per query: up to ``k`` hits, best first. With ``rerank`` the hits are in the order of the last
            step. Their scores are still cosine similarities with the query, so they need not decrease.

        Raises:
            GlamError: an argument is invalid, or the query or the index lacks data that a re-ranking step needs.
        """
        if k is None and threshold is None:
            raise GlamError("Neither k nor threshold is given. Give one of them.")
        if k is not None and k < 1:
            raise GlamError(f"k is {k}. Give at least 1, or None and a threshold to get all hits above it.")
        if threshold is not None and not -1 <= threshold <= 1:
            raise GlamError(f"The threshold is {threshold}. Scores are cosines, so give a number from -1 to 1.")
        chain = parse_chain(rerank) if isinstance(rerank, str) else rerank
        checked = as_queries(queries, self.dim)
        allowed = self._allowed(where)
        found: list[tuple[Scores, Rows]] = []
        if chain is not None:
            for query in checked:
                accepted, most = None, len(self) if k is None else k
                if threshold is not None:
                    accepted = np.zeros(len(self), dtype=np.bool_)
                    accepted[self._nearest_above(query.descriptor, threshold, allowed)[1]] = True
                    most = min(most, int(accepted.sum()))
                rows = chain.search(replace(query, allowed=allowed), self, most, accepted).rows
                found.append((self.matrix[rows] @ query.descriptor, rows))
        elif k is not None and checked:
            found = _cut(*self.nearest(np.stack([query.descriptor for query in checked]), k, allowed), threshold)
        elif threshold is not None:
            found = [self._nearest_above(query.descriptor, threshold, allowed) for query in checked]
        return [self._hits(scores, rows, allowed) for scores, rows in found]

    def within(self, descriptors: Descriptors, threshold: float) -> list[tuple[Scores, Rows]]:
        """Finds all images whose cosine similarity with a query is at least ``threshold``.

        Args:
            descriptors: (q, dim) float32, descriptors of the queries, of unit length.
            threshold: lowest cosine similarity, in [-1, 1].

        Returns:
            For each query the scores (m,) and the rows (m,), which are indices into ``image_ids``; best first.
        """
        few = _cut(*self.nearest(descriptors, FIRST_RESULTS, self._present), threshold)
        return [
            found if len(found[0]) < FIRST_RESULTS else self._nearest_above(query, threshold, self._present)
            for query, found in zip(descriptors, few, strict=True)
        ]

    def nearest(self, queries: Descriptors, k: int, allowed: Mask | None) -> tuple[Scores, Rows]:
        """Finds the rows nearest to each query; see `glam.index.rerank.base.Database.nearest`.

        Plain searches and re-ranking steps both go through this method.

        Args:
            queries: (q, dim) float32, descriptors of the queries, of unit length.
            k: most results per query.
            allowed: `Query.allowed`, a mask over the rows of the search structure; these may include images that have
                been removed. None for all rows.

        Returns:
            Cosine similarities (q, m), best first, and rows of ``matrix`` (q, m), with m <= k. If a query has fewer
            than m results, the others are -inf and -1.
        """
        most = min(k, len(self))
        if not most:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, found = self._structure.search(queries, most, allowed)
        return scores, np.where(found < 0, -1, self._structure_rows[found])

    def neighbors(self, rows: Rows) -> Neighbors:
        """See `glam.index.rerank.base.Database.neighbors`. A small index computes neighbors that are not stored.

        Args:
            rows: (n,) int64, rows of ``matrix``.

        Returns:
            The neighbors of each row, (n, `glam.index.rerank.base.NEIGHBORS`).

        Raises:
            GlamError: the kNN graph is missing, out of date, or damaged, and the index is too large to compute it now.
        """
        search = partial(self.nearest, allowed=self._present)
        graph = self._store.graph(self.image_ids, self.matrix, search, self._limits.linked_in_memory)
        return Neighbors(graph.rows[rows].astype(np.int64), np.array(graph.scores[rows]))

    def local_features_in_row(self, row: int) -> LocalFeatures | None:
        """See `glam.index.rerank.base.Database.local_features_in_row`."""
        return self._store.local_features(int(self.image_ids[row]))

    def local_features(self, image_id: int) -> LocalFeatures | None:
        """The local features of an image, read from the index or extracted from the file.

        Args:
            image_id: id of the image.

        Returns:
            Its local features; None if they are not stored and the file is unreadable or has changed.

        Raises:
            GlamError: a file of stored local features is damaged.
        """
        return self._store.local_features(image_id)

    def gate_decoding(self, gate: DecodeGate) -> None:
        """Bounds the memory of extracting local features from image files.

        Args:
            gate: returns a context manager inside which the content of a file is decoded. If it raises an `ImageError`,
                the image has no local features; other errors end the search.
        """
        self._store.gate = gate

    def _open_structure(self) -> tuple[Structure, ImageIds]:
        """Opens the search structure; returns it and the image_id of each of its rows, (n,).

        If the folder holds no descriptors, ``matrix`` is replaced by one that fetches descriptors from Milvus.
        """
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

    def filter_mask(self, where: str) -> Mask:
        """Evaluates a filter expression. The index caches the masks of recent expressions.

        Args:
            where: filter expression (`glam.index.storage.filters`).

        Returns:
            Booleans for `search`, (n,): whether each row of the search structure may be a result.

        Raises:
            GlamError: the expression is invalid or takes too long.
        """
        return self._cached_mask(where)

    def _allowed(self, where: str | Mask | None) -> Mask | None:
        """Mask of the structure rows that may be results: present images that meet the filter; None for all rows."""
        if where is None:
            return self._present
        return self.filter_mask(where) if isinstance(where, str) else where

    def _evaluate_filter(self, where: str) -> Mask:
        with self._filter_lock:
            image_ids = matching(self._filter_catalog.connection, where, seconds=self._limits.filter_seconds)
        allowed = np.isin(self._structure_ids, image_ids)
        return allowed if self._present is None else allowed & self._present

    def _nearest_above(self, query: Descriptors, threshold: float, allowed: Mask | None) -> tuple[Scores, Rows]:
        """Scores and rows of all images that score at least ``threshold``, best first."""
        scores, found = self._structure.range_search(query, threshold, allowed)
        return scores, self._structure_rows[found]

    @cached_property
    def _calibration(self) -> Calibration | None:
        return Calibration.fit(self.matrix)

    def _hits(self, scores: Scores, rows: Rows, allowed: Mask | None) -> list[Hit]:
        """Turns scores (m,) and rows (m,) into hits. The mask ``allowed`` tells how many images were searched."""
        image_ids = self.image_ids[rows]
        searched = len(self) if allowed is None else int(np.count_nonzero(allowed))
        entries = self._read_entries(image_ids.tolist())
        confidence = (
            [None] * len(image_ids)
            if self._calibration is None or not searched
            else (self._calibration.confidence(scores, searched).tolist())
        )
        # An image that a writer has removed and compacted away since this index was opened has no entry.
        results = [
            (score, entries[image_id], sure)
            for score, image_id, sure in zip(scores.tolist(), image_ids.tolist(), confidence, strict=True)
            if image_id in entries
        ]
        return [Hit(rank, *result) for rank, result in enumerate(results, start=1)]


def _cut(scores: Scores, rows: Rows, threshold: float | None) -> list[tuple[Scores, Rows]]:
    """Splits (q, k) scores and rows by query, and drops empty results and scores below the threshold."""
    valid = (rows >= 0) & (scores >= (-np.inf if threshold is None else threshold))
    return [(scores[i][valid[i]], rows[i][valid[i]]) for i in range(len(scores))]
