"""The graph of nearest images: for each image of an index those most like it, kept in the folder rerank/.

    precompute, Writer as it closes --update_graph--> rerank/000002.neighbours --stored_graph, PartialGraph--> Index

A graph is of some set of images. For another set it is brought up to date with as much work as there are differences:
images that are new look for their neighbors, so do those that lost one, and the others look at the new ones only. With
an exact search structure the result is the graph that a fresh start would give.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.ann import DescriptorSource, build_structure
from glam.index.ann.exact import Exact
from glam.index.limits import IndexLimits
from glam.index.rerank.base import NEIGHBORS as K
from glam.index.rerank_store.files import KNN_GRAPH, StoreFile, store_files, write_store_file
from glam.index.storage.catalog import Catalog
from glam.index.storage.checksums import digest
from glam.index.storage.snapshot import take_snapshot
from glam.index.types import Descriptors, ImageIds, Rows, Scores, rows_of_ids
from glam.progress import Progress, no_progress

RECIPE = f"{K} nearest by cosine"

BLOCK = 1_024
"""Images whose neighbors are looked for together."""

Search = Callable[[Descriptors, int], tuple[Scores, Rows]]
"""The ``k`` nearest of (q, dim) queries among all images: cosines and rows (q, k), best first; -inf and -1 where there
are fewer."""


class Graph(NamedTuple):
    """The nearest images of each image.

    Attributes:
        image_ids: (n,), rising.
        rows: (n, `K`) int32, neighbors by their rows in ``image_ids``, best first, never the image itself; -1 where
            there are fewer.
        scores: (n, `K`) float32 cosines; -inf there.
    """

    image_ids: ImageIds
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def empty(cls, image_ids: ImageIds) -> "Graph":
        """Of these images, without an edge."""
        rows, scores = np.full((len(image_ids), K), -1, np.int32), np.full((len(image_ids), K), -np.inf, np.float32)
        return cls(image_ids, rows, scores)


NO_IMAGES = Graph.empty(np.empty(0, np.int64))


@dataclass(frozen=True)
class PartialGraph:
    """A graph carried over from other images.

    Attributes:
        graph: of the images now, with the edges that still hold; it is changed by `finish`.
        added: (a,) rows of the images that are new; they have no edges yet.
        look: (l,) rows of the images that have to look for their neighbors: new ones, and those that lost one.
        others: (n - l,) rows of those that have all that they had.
    """

    graph: Graph
    added: Rows
    look: Rows
    others: Rows

    @classmethod
    def over(cls, before: Graph, image_ids: ImageIds) -> "PartialGraph":
        """The graph ``before`` as one of the images with these ids, (n,), rising."""
        graph = Graph.empty(image_ids)
        rows_before = rows_of_ids(before.image_ids, image_ids)
        stays = rows_before >= 0
        was = rows_before[stays]
        now = np.full(len(before.image_ids) + 1, -1, np.int32)  # the row of each image now; the last is of -1
        now[was] = np.flatnonzero(stays)
        graph.rows[stays] = now[before.rows[was]]
        graph.scores[stays] = before.scores[was]
        look = ~stays
        look[stays] = ((before.rows[was] >= 0) & (graph.rows[stays] < 0)).any(axis=1)
        return cls(graph, np.flatnonzero(~stays), np.flatnonzero(look), np.flatnonzero(~look))

    def finish(self, descriptors: DescriptorSource, search: Search, progress: Progress = no_progress) -> Graph:
        """The graph with all its edges.

        Args:
            descriptors: (n, dim), of the images.
            search: finds the nearest of them.
            progress: called with images done and images in all, of those that look for their neighbors.
        """
        graph = self.graph
        done = 0
        for block in _blocks(self.look):
            scores, rows = search(descriptors[block], min(K + 1, len(descriptors)))
            _put(graph, block, scores, np.where(rows == block[:, None], -1, rows))
            done += len(block)
            progress(done, len(self.look))
        if len(self.added) and len(self.others):
            among = build_structure(_Subset(descriptors, self.added), Exact.kind)
            for block in _blocks(self.others):
                scores, found = among.search(descriptors[block], min(K, len(self.added)))
                gains = scores[:, 0] >= graph.scores[block, -1]
                block, scores, found = block[gains], scores[gains], found[gains]
                rows = np.where(found < 0, -1, self.added[found])
                both = np.hstack([graph.scores[block], scores]), np.hstack([graph.rows[block], rows])
                _put(graph, block, *both)
        return graph


def update_graph(index: Path, catalog: Catalog, limits: IndexLimits, progress: Progress) -> StoreFile | None:
    """Writes the graph of the present images to a file that does not count yet; None where the one that is kept is it.

    A graph that is damaged is made anew from nothing.
    """
    try:
        before = stored_graph(index, catalog)
    except GlamError:
        before = NO_IMAGES
    snapshot = take_snapshot(index, catalog)
    if np.array_equal(before.image_ids, snapshot.image_ids):
        return None
    descriptors = snapshot.descriptors_of(snapshot.image_ids)
    structure, structure_ids = ann_cache.open_or_build(index, snapshot, catalog.config, limits)
    rows = snapshot.rows_of(structure_ids)
    present = None if (rows >= 0).all() else rows >= 0

    def search(queries: Descriptors, k: int) -> tuple[Scores, Rows]:
        scores, found = structure.search(queries, k, present)
        return scores, np.where(found < 0, -1, rows[found])

    graph = PartialGraph.over(before, snapshot.image_ids).finish(descriptors, search, progress)
    arrays = [graph.rows.astype("<i4"), graph.scores.astype("<f4")]
    return write_store_file(index, catalog, KNN_GRAPH, RECIPE, graph.image_ids, arrays)


def stored_graph(index: Path, catalog: Catalog) -> Graph:
    """The graph that is kept, memory-mapped; one of no images where there is none.

    Every byte is checked first: a wrong row would lead to an image that has nothing to do with it, or to none.

    Raises:
        GlamError: the file is damaged.
    """
    for file in store_files(catalog, KNN_GRAPH):
        if file.recipe != RECIPE or not len(file.image_ids):
            continue
        try:
            data = np.asarray(np.memmap(file.path(index), dtype="<i4", mode="r"))
        except FileNotFoundError:  # a writer replaced it just now, or this is a copy without it
            continue
        except ValueError as error:  # no bytes, or not a multiple of four
            raise file.damaged() from error
        if digest(data.data) != file.digest:
            raise file.damaged()
        rows, scores = data.reshape(2, len(file.image_ids), K)
        return Graph(file.image_ids, rows, scores.view("<f4"))
    return NO_IMAGES


def _blocks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _put(graph: Graph, block: Rows, scores: Scores, rows: Rows) -> None:
    """Takes the `K` best of what was found for a block of images, equal ones by row; rows below 0 do not count."""
    scores = np.where(rows < 0, -np.inf, scores)
    rows = np.where(rows < 0, -1, rows)
    order = np.lexsort((rows, -scores))[:, :K]
    found = order.shape[1]
    graph.scores[block] = -np.inf
    graph.rows[block] = -1
    graph.scores[block, :found] = np.take_along_axis(scores, order, axis=1)
    graph.rows[block, :found] = np.take_along_axis(rows, order, axis=1)


class _Subset(DescriptorSource):
    """Some rows of a source, as a source."""

    def __init__(self, descriptors: DescriptorSource, rows: Rows) -> None:
        self.dim = descriptors.dim
        self._descriptors, self._rows = descriptors, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        return self._descriptors[self._rows[rows]]
