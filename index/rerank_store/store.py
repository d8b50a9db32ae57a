"""Access to the kNN graph and the local features of an open index, stored or computed on demand.

Index.neighbors, Index.local_features --> RerankStore --> rerank/, or else a search and the image files
"""

from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from glam.errors import GlamError
from glam.index.ann import DescriptorSource
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank_store.knn_graph import Graph, PartialGraph, Search, stored_graph
from glam.index.rerank_store.local_features import DecodeGate, StoredFeatures, features_of
from glam.index.storage.catalog import Catalog
from glam.index.types import ImageIds

FEATURES_IN_MEMORY = 1_000
"""Size of the LRU cache of extracted local features, in images (arbitrary): 60 MB."""


class RerankStore:
    """The kNN graph and the local features of an open index, loaded on demand. Any number of threads may use it.

    Args:
        index: folder of the index.
        root: folder that the paths of the images are relative to.
        catalog: catalog of the index.
        lock: lock that guards the catalog.

    Attributes:
        gate: image files are decoded inside this.
    """

    def __init__(self, index: Path, root: Path, catalog: Catalog, lock: Lock) -> None:
        self._index, self._root, self._catalog, self._lock = index, root, catalog, lock
        self.gate: DecodeGate = nullcontext
        self._opening = Lock()
        self._graph: Graph | None = None
        self._features: StoredFeatures | None = None
        self._cached = lru_cache(FEATURES_IN_MEMORY)(self._extract)

    def graph(self, image_ids: ImageIds, matrix: DescriptorSource, search: Search, most: int) -> Graph:
        """The kNN graph of the images in the index, updated in memory if the stored graph is out of date.

        Args:
            image_ids: (n,) int64, ids of the images in ascending order.
            matrix: (n, dim), descriptors of the images.
            search: finds the nearest of the images.
            most: most images whose neighbors may be searched now.

        Raises:
            GlamError: neighbors of more than ``most`` images are missing, or the file of the graph is damaged.
        """
        with self._opening:
            if self._graph is None:
                with self._lock:
                    graph = stored_graph(self._index, self._catalog)
                if not np.array_equal(graph.image_ids, image_ids):
                    partial = PartialGraph.over(graph, image_ids)
                    if len(partial.incomplete) > most:
                        state = "is out of date" if len(graph.image_ids) else "is missing"
                        raise GlamError(
                            f"This re-ranking chain needs the kNN graph of the index, which {state}. "
                            "Run `glam index precompute INDEX --knn-graph`."
                        )
                    graph = partial.finish(matrix, search)
                self._graph = graph
            return self._graph

    def local_features(self, image_id: int) -> LocalFeatures | None:
        """The local features of an image, stored or extracted from its file.

        Args:
            image_id: id of the image.

        Returns:
            The local features; None if they are not stored and the file cannot be read or has changed.

        Raises:
            GlamError: a file of stored local features is damaged.
        """
        with self._opening:
            if self._features is None:
                with self._lock:
                    self._features = StoredFeatures(self._index, self._catalog)
        stored = self._features.get(image_id)
        return self._cached(image_id) if stored is None else stored

    def _extract(self, image_id: int) -> LocalFeatures | None:
        with self._lock:
            facts = self._catalog.facts(image_id)
        return None if facts is None else features_of(self._root, facts, self.gate)
