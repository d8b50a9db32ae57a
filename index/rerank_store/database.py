"""The database that reranking asks, over an open index: its search, its descriptors, what it keeps.

    Index.search_reranked --> Chain.search --> IndexDatabase --> structure, rows
                                                             --> RerankStore --> rerank/; what is not there is made

Rows are the places of images in `Index.image_ids`.
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
        ids: (n,) of its images.
        rows: (n, dim), their descriptors.
        places: searches them.
        limits: say how many images may look for their neighbors in memory.
    """

    path: Path
    root: Path
    catalog: Catalog
    lock: Lock
    image_ids: ImageIds
    rows: DescriptorSource
    places: SnapshotSearch
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

    def features(self, image: int) -> LocalFeatures | None:
        """The local features of the image with this id; None where they are not kept and cannot be made.

        Raises:
            GlamError: a file is damaged.
        """
        with self._opening:
            if self._features is None:
                with self._index.lock:
                    self._features = StoredFeatures(self._index.path, self._index.catalog)
        kept = self._features.get(image)
        return self._made(image) if kept is None else kept

    def _open_graph(self) -> Graph:
        index = self._index
        with index.lock:
            graph = stored_graph(index.path, index.catalog)
        if np.array_equal(graph.image_ids, index.image_ids):
            return graph
        carried = PartialGraph.over(graph, index.image_ids)
        if len(carried.look) > index.limits.linked_in_memory:
            what = "an older graph" if len(graph.image_ids) else "no graph"
            raise GlamError(
                f"the index has {what} of nearest images, and this chain needs one; "
                "run `glam index precompute INDEX --knn-graph`"
            )
        return carried.finished(index.rows, index.places.search)

    def _make(self, image: int) -> LocalFeatures | None:
        with self._index.lock:
            facts = self._index.catalog.facts(image)
        return None if facts is None else features_of(self._index.root, facts)


class IndexDatabase:
    """See `glam.index.rerank.base.Database`.

    Args:
        index: open.
        kept: of this index.
        allowed: which positions of its structure may be found; all that are present by default.
    """

    def __init__(self, index: OpenIndex, kept: RerankStore, allowed: Mask | None = None) -> None:
        self._index, self._kept, self._allowed = index, kept, allowed

    @property
    def rows(self) -> DescriptorSource:
        """The descriptors by position."""
        return self._index.rows

    def search(self, descriptors: Descriptors, k: int) -> tuple[Scores, Rows]:
        """The ``k`` nearest that may be found: (q, k) cosines and positions; -inf and -1 where there are fewer."""
        scores = np.full((len(descriptors), k), -np.inf, dtype=np.float32)
        positions = np.full((len(descriptors), k), -1, dtype=np.int64)
        most = min(k, len(self._index.image_ids))
        if most:
            scores[:, :most], positions[:, :most] = self._index.places.search(descriptors, most, self._allowed)
        return scores, positions

    def neighbors(self, positions: Rows) -> Neighbors:
        """The nearest images of those at (n,) positions, by the kept graph.

        Raises:
            GlamError: none is kept, and there are too many images to make it now.
        """
        graph = self._kept.graph()
        return Neighbors(graph.places[positions].astype(np.int64), np.array(graph.scores[positions]))

    def features(self, position: int) -> LocalFeatures | None:
        """The local features of the image at a position; None where they are not kept and its file cannot be read."""
        return self._kept.features(int(self._index.image_ids[position]))
