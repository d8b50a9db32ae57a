"""Search in a Milvus collection, with the interface `glam.index.ann.Structure`.

    Index --search, range_search--> MilvusSearch --split_blocks, MilvusCollection.search--> the best of all blocks
                                             --images missing from the Milvus collection--> a structure in memory

Milvus returns at most `MilvusLimits.results` results per query. For more results, the ids are searched in blocks.
"""

from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.ann import DescriptorSource, Structure, build_structure
from glam.index.ann.rescore import best_first
from glam.index.milvus.collection import MilvusCollection
from glam.index.milvus.filter_expressions import IdBlock, split_blocks
from glam.index.storage.snapshot import Snapshot
from glam.index.types import Descriptors, ImageIds, Mask, Rows, Scores

Found = tuple[Scores, Rows]
"""Scores (m,) and rows (m,) of the snapshot that a query found, best first."""


class MilvusSearch:
    """A `glam.index.ann.Structure` whose rows are those of a snapshot, and whose descriptors are in Milvus.

    Args:
        collection: connection to the Milvus collection.
        snapshot: images that may be found.
        held_ids: (n,) int64, image ids in the Milvus collection in ascending order; they may include ids that are not
            in the snapshot.

    Raises:
        GlamError: images are missing from the Milvus collection, and the snapshot has no descriptors of them.
    """

    kind = "milvus"

    def __init__(self, collection: MilvusCollection, snapshot: Snapshot, held_ids: ImageIds) -> None:
        self._collection = collection
        self._limits = collection.limits
        self._snapshot = snapshot
        self._held_ids = held_ids
        self._held_rows = snapshot.rows_of(held_ids)
        is_missing = np.ones(len(snapshot.image_ids), dtype=np.bool_)
        is_missing[self._held_rows[self._held_rows >= 0]] = False
        self._missing_rows: Rows = np.flatnonzero(is_missing)
        if snapshot.is_bare and len(self._missing_rows):
            raise GlamError(
                f"{len(self._missing_rows)} images are not in the Milvus {collection.config} yet, and this copy of the "
                "index has no descriptors. Copy the catalog again when no writer is active."
            )
        self._local: Structure | None = None  # finds the missing images
        if len(self._missing_rows):
            self._local = build_structure(snapshot.descriptors_of(snapshot.image_ids[self._missing_rows]))
        self._all_blocks = list(split_blocks(self._block_of_all(None)))
        self._filtered_blocks: tuple[Mask | None, list[IdBlock]] = None, []

    def __len__(self) -> int:
        return len(self._snapshot.image_ids)

    @property
    def memory_bytes(self) -> int:
        """Memory in use on this machine, in bytes: ids, and images missing from the Milvus collection."""
        return self._held_ids.nbytes + self._held_rows.nbytes + (self._local.memory_bytes if self._local else 0)

    def add(self, descriptors: Descriptors) -> None:
        """Not supported: `glam.index.milvus.sync.MilvusSync` adds images."""
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Not supported: the Milvus collection is on its server."""
        raise NotImplementedError

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.search`."""
        found = self._search_local(queries, k, allowed)
        most = self._limits.results
        for block in self._blocks(allowed) if k <= most else split_blocks(self._block_of_all(allowed), most):
            for i, more in enumerate(self._search_block(queries, k, block)):
                found[i] = _best([found[i], more], k)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for i, (found_scores, found_rows) in enumerate(found):
            scores[i, : len(found_rows)], rows[i, : len(found_rows)] = found_scores, found_rows
        return scores, rows

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.range_search`."""
        query = np.ascontiguousarray(query, dtype=np.float32).reshape(1, -1)
        found = [self._range_search_local(query, threshold, allowed)]
        below = float(np.nextafter(np.float32(threshold), np.float32(-2)))
        waiting, most = list(self._blocks(allowed)), self._limits.results
        while waiting:
            block = waiting.pop()
            ((scores, image_ids),) = self._collection.search(query, most, block.condition, below)
            if len(image_ids) == most and block.count > 1:
                waiting.extend(block.halves())
            else:
                found.append(self._to_rows(scores, image_ids))
        return _best(found, None)

    def _blocks(self, allowed: Mask | None) -> list[IdBlock]:
        """The blocks to search. Splitting takes longer than searching, so the blocks of the last filter are cached."""
        if allowed is None:
            return self._all_blocks
        mask, blocks = self._filtered_blocks
        if mask is not allowed:
            blocks = list(split_blocks(self._block_of_all(allowed)))
            self._filtered_blocks = allowed, blocks
        return blocks

    def _block_of_all(self, allowed: Mask | None) -> IdBlock:
        """A block of all ids in the Milvus collection; those in the snapshot and in the mask are allowed."""
        found = self._held_rows >= 0
        if allowed is not None:
            found[found] = allowed[self._held_rows[found]]
        return IdBlock(self._held_ids, found, self._limits)

    def _search_block(self, queries: Descriptors, k: int, block: IdBlock) -> list[Found]:
        """The ``k`` nearest images in a block.

        The Milvus collection may return images that are not in the snapshot, such as images that a writer has brought
        back since. If these leave too few results, the search is repeated with a larger limit.
        """
        most = self._limits.results
        limit = min(k, most)
        while True:
            answers = self._collection.search(queries, limit, block.condition)
            found = [self._to_rows(*answer) for answer in answers]
            is_short = any(
                len(rows) < min(k, limit) and len(image_ids) == limit
                for (_, rows), (_, image_ids) in zip(found, answers, strict=True)
            )
            if not is_short or limit == most:
                return found
            limit = min(4 * limit, most)

    def _to_rows(self, scores: Scores, image_ids: ImageIds) -> Found:
        """Converts ids to rows, and drops images that are not in the snapshot or that the structure in memory finds."""
        rows = self._snapshot.rows_of(image_ids)
        valid = (rows >= 0) & ~np.isin(rows, self._missing_rows)
        return scores[valid], rows[valid]

    def _search_local(self, queries: Descriptors, k: int, allowed: Mask | None) -> list[Found]:
        if self._local is None:
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        mask = None if allowed is None else allowed[self._missing_rows]
        scores, found = self._local.search(queries, min(k, len(self._missing_rows)), mask)
        valid = found >= 0
        return [(scores[i][valid[i]], self._missing_rows[found[i][valid[i]]]) for i in range(len(queries))]

    def _range_search_local(self, query: Descriptors, threshold: float, allowed: Mask | None) -> Found:
        if self._local is None:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        mask = None if allowed is None else allowed[self._missing_rows]
        scores, found = self._local.range_search(query, threshold, mask)
        return scores, self._missing_rows[found]


class FetchedDescriptors(DescriptorSource):
    """A source of descriptors that fetches them from a Milvus collection; zeros for images that it lacks.

    Args:
        collection: connection to the Milvus collection.
        image_ids: (n,) int64, ids of the images in the order of the rows.
        dim: length of a descriptor.
    """

    def __init__(self, collection: MilvusCollection, image_ids: ImageIds, dim: int) -> None:
        self.dim = dim
        self._collection = collection
        self._image_ids = image_ids

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        """Fetches the descriptors in these rows, (m, dim) float32."""
        return self._collection.descriptors(self._image_ids[rows], self.dim)


def _best(found: list[Found], k: int | None) -> Found:
    """Merges results; returns the ``k`` best, or all if ``k`` is None. Equal scores are ordered by row."""
    all_scores, all_rows = (np.concatenate([result[i] for result in found]) for i in (0, 1))
    scores, rows = best_first(all_scores, all_rows)
    return scores[:k], rows[:k]
