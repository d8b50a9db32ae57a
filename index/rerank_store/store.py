"""The data that re-ranking uses beside descriptors: read from the folder rerank/, computed where it is not there.

Index.neighbors, Index.local_features --> RerankStore --> rerank/, or the image files and a search
"""

from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from glam.errors import GlamError
from glam.index.ann import DescriptorSource
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank_store.knn_graph import Graph, PartialGraph, Search, stored_graph
from glam.index.rerank_store.local_features import StoredFeatures, features_of
from glam.index.storage.catalog import Catalog
from glam.index.types import ImageIds

FEATURES_IN_MEMORY = 1_000
"""Images whose features are cached after they were computed: 60 MB."""


class RerankStore:
    """The kNN graph and the local features of an open index, read at first use. Any number of threads may use it.

    Args:
        index: its folder.
        root: folder that the paths of its images are relative to.
        catalog: of the index.
        lock: held while the catalog is used.
    """

    def __init__(self, index: Path, root: Path, catalog: Catalog, lock: Lock) -> None:
        self._index, self._root, self._catalog, self._lock = index, root, catalog, lock
        self._opening = Lock()
        self._graph: Graph | None = None
        self._features: StoredFeatures | None = None
        self._cached = lru_cache(FEATURES_IN_MEMORY)(self._extract)

    def graph(self, image_ids: ImageIds, matrix: DescriptorSource, search: Search, most: int) -> Graph:
        """The kNN graph of the images of the index.

        Args:
            image_ids: (n,), of its images, rising.
            matrix: (n, dim), their descriptors.
            search: finds the nearest of them, for images that the stored graph lacks.
            most: images that may be searched for now.

        Raises:
            GlamError: the stored graph lacks more than ``most`` images, or its file is damaged.
        """
        with self._opening:
            if self._graph is None:
                with self._lock:
                    graph = stored_graph(self._index, self._catalog)
                if not np.array_equal(graph.image_ids, image_ids):
                    partial = PartialGraph.over(graph, image_ids)
                    if len(partial.look) > most:
                        what = "an older graph" if len(graph.image_ids) else "no graph"
                        raise GlamError(
                            f"the index has {what} of nearest images, and this chain needs one; "
                            "run `glam index precompute INDEX --knn-graph`"
                        )
                    graph = partial.finish(matrix, search)
                self._graph = graph
            return self._graph

    def local_features(self, image_id: int) -> LocalFeatures | None:
        """The local features of the image with this id; None where they are neither stored nor can be extracted.

        Raises:
            GlamError: a file is damaged.
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
        return None if facts is None else features_of(self._root, facts)
