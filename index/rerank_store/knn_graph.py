"""The kNN graph of an index: the nearest neighbors of each image, stored in the folder `rerank/`.

    precompute, Writer on closing --update_graph--> rerank/000002.neighbours --stored_graph, PartialGraph--> Index

The graph is updated incrementally: new images, and images that lost a neighbor, search all images again; the other
images are compared only with the new ones. With an exact search structure the result equals a graph computed from
scratch.
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
"""Recipe of the file. It must change whenever the content of the graph changes."""

BLOCK = 1_024
"""Images that search for their neighbors at a time (arbitrary)."""

Search = Callable[[Descriptors, int], tuple[Scores, Rows]]
"""Finds the k nearest images of queries (q, dim): returns cosine similarities and rows (q, k), best first; -inf and -1
where there are fewer."""


class Graph(NamedTuple):
    """A kNN graph.

    Attributes:
        image_ids: (n,) int64, ids of the images in ascending order.
        rows: (n, `K`) int32, neighbors of each image as indices into ``image_ids``, best first, without the image
            itself; -1 where there are fewer.
        scores: (n, `K`) float32, cosine similarities with the neighbors; -inf where there are fewer.
    """

    image_ids: ImageIds
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def empty(cls, image_ids: ImageIds) -> "Graph":
        """A graph of images (n,) without edges."""
        rows, scores = np.full((len(image_ids), K), -1, np.int32), np.full((len(image_ids), K), -np.inf, np.float32)
        return cls(image_ids, rows, scores)


NO_IMAGES = Graph.empty(np.empty(0, np.int64))


@dataclass(frozen=True)
class PartialGraph:
    """An out-of-date graph, transferred to the current images.

    Attributes:
        graph: graph of the current images with the edges that remain valid; `finish` changes it.
        added: (a,) rows of new images, which have no edges yet.
        incomplete: (i,) rows of images that must search for neighbors: new ones, and those that lost a neighbor.
        complete: (n - i,) rows of images that kept all their neighbors.
    """

    graph: Graph
    added: Rows
    incomplete: Rows
    complete: Rows

    @classmethod
    def over(cls, before: Graph, image_ids: ImageIds) -> "PartialGraph":
        """Transfers a graph to other images.

        Args:
            before: the graph.
            image_ids: (n,) int64, ids of the current images in ascending order.
        """
        graph = Graph.empty(image_ids)
        rows_before = rows_of_ids(before.image_ids, image_ids)
        stays = rows_before >= 0
        old_rows = rows_before[stays]
        # The current row of each image in `before`; the last item maps -1, for no neighbor, to itself.
        new_rows = np.full(len(before.image_ids) + 1, -1, np.int32)
        new_rows[old_rows] = np.flatnonzero(stays)
        graph.rows[stays] = new_rows[before.rows[old_rows]]
        graph.scores[stays] = before.scores[old_rows]
        incomplete = ~stays
        incomplete[stays] = ((before.rows[old_rows] >= 0) & (graph.rows[stays] < 0)).any(axis=1)
        return cls(graph, np.flatnonzero(~stays), np.flatnonzero(incomplete), np.flatnonzero(~incomplete))

    def finish(self, descriptors: DescriptorSource, search: Search, progress: Progress = no_progress) -> Graph:
        """Completes the graph.

        Args:
            descriptors: (n, dim), descriptors of the current images.
            search: finds the nearest of the current images.
            progress: called with the number of images done and the total, of those that search for neighbors.

        Returns:
            The complete graph.
        """
        graph = self.graph
        done = 0
        for block in _blocks(self.incomplete):
            scores, rows = search(descriptors[block], min(K + 1, len(descriptors)))
            _put(graph, block, scores, np.where(rows == block[:, None], -1, rows))
            done += len(block)
            progress(done, len(self.incomplete))
        if len(self.added) and len(self.complete):
            new_images = build_structure(_Subset(descriptors, self.added), Exact.kind)
            for block in _blocks(self.complete):
                scores, found = new_images.search(descriptors[block], min(K, len(self.added)))
                gains = scores[:, 0] >= graph.scores[block, -1]
                block, scores, found = block[gains], scores[gains], found[gains]
                rows = np.where(found < 0, -1, self.added[found])
                both = np.hstack([graph.scores[block], scores]), np.hstack([graph.rows[block], rows])
                _put(graph, block, *both)
        return graph


def update_graph(index: Path, catalog: Catalog, limits: IndexLimits, progress: Progress) -> StoreFile | None:
    """Computes the kNN graph of the present images, and writes it to a file.

    A damaged graph is computed again from scratch.

    Args:
        index: folder of the index.
        catalog: its catalog.
        limits: limits of the index.
        progress: called with the number of images done and the total.

    Returns:
        The file, for `register_file`; None if the stored graph is up to date.
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
    """Memory-maps the stored graph, after checking its digest. A damaged graph would contain unrelated images.

    Args:
        index: folder of the index.
        catalog: its catalog.

    Returns:
        The graph; a graph of no images if none is stored.

    Raises:
        GlamError: the file is damaged.
    """
    for file in store_files(catalog, KNN_GRAPH):
        if file.recipe != RECIPE or not len(file.image_ids):
            continue
        try:
            data = np.asarray(np.memmap(file.path(index), dtype="<i4", mode="r"))
        except FileNotFoundError:  # a writer has just replaced it, or this is a copy of the index without it
            continue
        except (ValueError, OSError) as error:  # the file is empty, or its size is not a multiple of four
            raise file.damaged() from error
        count = len(file.image_ids)
        if data.size != 2 * count * K or digest(data.data) != file.digest:
            raise file.damaged()
        rows, scores = data.reshape(2, count, K)
        if rows.min() < -1 or rows.max() >= count or (np.diff(file.image_ids) <= 0).any():
            raise file.damaged()
        return Graph(file.image_ids, rows, scores.view("<f4"))
    return NO_IMAGES


def _blocks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _put(graph: Graph, block: Rows, scores: Scores, rows: Rows) -> None:
    """Stores the `K` best neighbors of a block of images; equal scores are ordered by row, rows below 0 are ignored."""
    scores = np.where(rows < 0, -np.inf, scores)
    rows = np.where(rows < 0, -1, rows)
    order = np.lexsort((rows, -scores))[:, :K]
    found = order.shape[1]
    graph.scores[block] = -np.inf
    graph.rows[block] = -1
    graph.scores[block, :found] = np.take_along_axis(scores, order, axis=1)
    graph.rows[block, :found] = np.take_along_axis(rows, order, axis=1)


class _Subset(DescriptorSource):
    """The given rows (m,) of a source, as a source of m descriptors."""

    def __init__(self, descriptors: DescriptorSource, rows: Rows) -> None:
        self.dim = descriptors.dim
        self._descriptors, self._rows = descriptors, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        return self._descriptors[self._rows[rows]]
