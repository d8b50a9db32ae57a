"""The database that reranking asks, over an open index: its search, its descriptors, what it keeps.

    Index.search_reranked --> Chain.search --> IndexDatabase --> structure, descriptors
                                                             --> RerankStore --> rerank/; what is not there is made

An image's row is its index in `Index.image_ids`.
"""

from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from glam.errors import GlamError
from glam.index.ann import DescriptorSource
from glam.index.limits import IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank.base import Neighbors
from glam.index.rerank_store.knn_graph import Graph, PartialGraph, SnapshotSearch, stored_graph
from glam.index.rerank_store.local_features import StoredFeatures, features_of
from glam.index.storage.catalog import Catalog
from glam.index.types import Descriptors, ImageIds, Mask, Rows, Scores

FEATURES_IN_MEMORY = 1_000
"""Images whose features are remembered after they were made: 60 MB."""


class OpenIndex(NamedTuple):
    """What an open index is, to what follows.

    Attributes:
        path: its folder.
        root: folder that its images' paths are relative to.
        catalog: of the index.
        lock: held by whoever uses the catalog.
        image_ids: (n,), of its images, rising.
        descriptors: (n, dim), of its images.
        snapshot_search: finds the nearest of them.
        limits: say how many images may look for their neighbors in memory.
    """

    path: Path
    root: Path
    catalog: Catalog
    lock: Lock
    image_ids: ImageIds
    descriptors: DescriptorSource
    snapshot_search: SnapshotSearch
    limits: IndexLimits


class RerankStore:
    """What an index keeps for reranking, opened at first use; and what is made where nothing is kept. Any number of
    threads may use it."""

    def __init__(self, index: OpenIndex) -> None:
        self._index = index
        self._opening = Lock()
        self._graph: Graph | None = None
        self._features: StoredFeatures | None = None
        self._made = lru_cache(FEATURES_IN_MEMORY)(self._make)

    def graph(self) -> Graph:
        """The graph of the images of the index.

        Raises:
            GlamError: it has too many that the kept graph does not know, or the file is damaged.
        """
        with self._opening:
            if self._graph is None:
                self._graph = self._open_graph()
            return self._graph

    def local_features(self, image_id: int) -> LocalFeatures | None:
        """The local features of the image with this id; None where they are not kept and cannot be made.

        Raises:
            GlamError: a file is damaged.
        """
        with self._opening:
            if self._features is None:
                with self._index.lock:
                    self._features = StoredFeatures(self._index.path, self._index.catalog)
        stored = self._features.get(image_id)
        return self._made(image_id) if stored is None else stored

    def _open_graph(self) -> Graph:
        index = self._index
        with index.lock:
            graph = stored_graph(index.path, index.catalog)
        if np.array_equal(graph.image_ids, index.image_ids):
            return graph
        partial = PartialGraph.over(graph, index.image_ids)
        if len(partial.look) > index.limits.linked_in_memory:
            what = "an older graph" if len(graph.image_ids) else "no graph"
            raise GlamError(
                f"the index has {what} of nearest images, and this chain needs one; "
                "run `glam index precompute INDEX --knn-graph`"
            )
        return partial.finish(index.descriptors, index.snapshot_search.search)

    def _make(self, image_id: int) -> LocalFeatures | None:
        with self._index.lock:
            facts = self._index.catalog.facts(image_id)
        return None if facts is None else features_of(self._index.root, facts)


class IndexDatabase:
    """See `glam.index.rerank.base.Database`.

    Args:
        index: open.
        store: of this index.
        allowed: which rows of its structure may be found; all that are present by default.
    """

    def __init__(self, index: OpenIndex, store: RerankStore, allowed: Mask | None = None) -> None:
        self._index, self._store, self._allowed = index, store, allowed

    @property
    def descriptors(self) -> DescriptorSource:
        """The descriptors by row."""
        return self._index.descriptors

    def search(self, queries: Descriptors, k: int) -> tuple[Scores, Rows]:
        """The ``k`` nearest that may be found: (q, k) cosines and rows; -inf and -1 where there are fewer."""
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        most = min(k, len(self._index.image_ids))
        if most:
            scores[:, :most], rows[:, :most] = self._index.snapshot_search.search(queries, most, self._allowed)
        return scores, rows

    def neighbors(self, rows: Rows) -> Neighbors:
        """The nearest images of those in (n,) rows, by the stored graph.

        Raises:
            GlamError: none is stored, and there are too many images to make it now.
        """
        graph = self._store.graph()
        return Neighbors(graph.rows[rows].astype(np.int64), np.array(graph.scores[rows]))

    def local_features(self, row: int) -> LocalFeatures | None:
        """The local features of the image in a row; None where they are not kept and its file cannot be read."""
        return self._store.local_features(int(self._index.image_ids[row]))
