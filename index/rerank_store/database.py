"""The database that reranking asks, over an open index: its search, its descriptors, what it keeps.

    Index.search_reranked --> Chain.search --> IndexDatabase --> structure, rows
                                                             --> Kept --> rerank/; what is not there is made

Positions are the places of images in `Index.ids`.
"""

from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from glam.errors import GlamError
from glam.index.ann import RowSource
from glam.index.limits import IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank.base import Neighbours
from glam.index.rerank_store.knn_graph import Carried, Graph, Places, kept_graph
from glam.index.rerank_store.local_features import KeptFeatures, features_of
from glam.index.storage.catalog import Catalogue
from glam.index.types import Mask, Numbers, Positions, Rows, Scores

FEATURES_IN_MEMORY = 1_000
"""Images whose features are remembered after they were made: 60 MB."""


class Opened(NamedTuple):
    """What an open index is, to what follows.

    Attributes:
        path: its folder.
        root: folder that its images' paths are relative to.
        catalogue: of the index.
        lock: held by whoever uses the catalogue.
        ids: (n,) of its images.
        rows: (n, dim), their descriptors.
        places: searches them.
        limits: say how many images may look for their neighbours in memory.
    """

    path: Path
    root: Path
    catalogue: Catalogue
    lock: Lock
    ids: Numbers
    rows: RowSource
    places: Places
    limits: IndexLimits


class Kept:
    """What an index keeps for reranking, opened at first use; and what is made where nothing is kept. Any number of
    threads may use it."""

    def __init__(self, index: Opened) -> None:
        self._index = index
        self._opening = Lock()
        self._graph: Graph | None = None
        self._features: KeptFeatures | None = None
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
                    self._features = KeptFeatures(self._index.path, self._index.catalogue)
        kept = self._features.get(image)
        return self._made(image) if kept is None else kept

    def _open_graph(self) -> Graph:
        index = self._index
        with index.lock:
            graph = kept_graph(index.path, index.catalogue)
        if np.array_equal(graph.ids, index.ids):
            return graph
        carried = Carried.over(graph, index.ids)
        if len(carried.look) > index.limits.linked_in_memory:
            what = "an older graph" if len(graph.ids) else "no graph"
            raise GlamError(
                f"the index keeps {what} of nearest images, and this reranking needs one; "
                "`glam index keep INDEX --neighbours` makes it"
            )
        return carried.finished(index.rows, index.places.search)

    def _make(self, image: int) -> LocalFeatures | None:
        with self._index.lock:
            facts = self._index.catalogue.facts(image)
        return None if facts is None else features_of(self._index.root, facts)


class IndexDatabase:
    """See `glam.index.rerank.base.Database`.

    Args:
        index: open.
        kept: of this index.
        allowed: which positions of its structure may be found; all that are present by default.
    """

    def __init__(self, index: Opened, kept: Kept, allowed: Mask | None = None) -> None:
        self._index, self._kept, self._allowed = index, kept, allowed

    @property
    def rows(self) -> RowSource:
        """The descriptors by position."""
        return self._index.rows

    def search(self, descriptors: Rows, k: int) -> tuple[Scores, Positions]:
        """The ``k`` nearest that may be found: (q, k) cosines and positions; -inf and -1 where there are fewer."""
        scores = np.full((len(descriptors), k), -np.inf, dtype=np.float32)
        positions = np.full((len(descriptors), k), -1, dtype=np.int64)
        most = min(k, len(self._index.ids))
        if most:
            scores[:, :most], positions[:, :most] = self._index.places.search(descriptors, most, self._allowed)
        return scores, positions

    def neighbours(self, positions: Positions) -> Neighbours:
        """The nearest images of those at (n,) positions, by the kept graph.

        Raises:
            GlamError: none is kept, and there are too many images to make it now.
        """
        graph = self._kept.graph()
        return Neighbours(graph.places[positions].astype(np.int64), np.array(graph.scores[positions]))

    def features(self, position: int) -> LocalFeatures | None:
        """The local features of the image at a position; None where they are not kept and its file cannot be read."""
        return self._kept.features(int(self._index.ids[position]))
