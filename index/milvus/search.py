"""Search in a Milvus collection, as `glam.index.ann.Structure`: the same questions, the same answers.

    Index --search, range_search--> MilvusSearch --split_blocks, MilvusCollection.search--> the best of all blocks
                                             --what the collection lacks--> a structure in memory

Milvus gives at most `MilvusLimits.results` a query, so whoever wants more gets them in blocks of ids.
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
"""Scores and rows of the snapshot that one query found, best first."""


class MilvusSearch:
    """Search among the images of a snapshot, by their rows in it.

    Args:
        collection: open.
        snapshot: the images that may be found.
        held_ids: (n,) image ids that the collection holds, rising; some may be of no image in the snapshot.
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
                f"{len(self._missing_rows)} images are not in the {collection.config} yet, and this copy of the index "
                "has no descriptors of its own; copy its catalog again when no writer is at work"
            )
        self._local: Structure | None = None  # finds the missing images
        if len(self._missing_rows):
            self._local = build_structure(snapshot.descriptors_of(snapshot.image_ids[self._missing_rows]))
        self._all_blocks = list(split_blocks(self._whole_block(None)))
        self._filtered_blocks: tuple[Mask | None, list[IdBlock]] = None, []

    def __len__(self) -> int:
        return len(self._snapshot.image_ids)

    @property
    def memory_bytes(self) -> int:
        """On this machine: ids, and what the collection lacks."""
        return self._held_ids.nbytes + self._held_rows.nbytes + (self._local.memory_bytes if self._local else 0)

    def add(self, descriptors: Descriptors) -> None:
        """Not here: a writer puts images into the collection."""
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Not here: the collection is on its server."""
        raise NotImplementedError

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.search`."""
        found = self._search_local(queries, k, allowed)
        most = self._limits.results
        for block in self._blocks(allowed) if k <= most else split_blocks(self._whole_block(allowed), most):
            for i, more in enumerate(self._search_block(queries, k, block)):
                found[i] = _best([found[i], more], k)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for i, (some, at) in enumerate(found):
            scores[i, : len(at)], rows[i, : len(at)] = some, at
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
        """The blocks to search, remembered for no filter and for the last: to split them takes longer than a search."""
        if allowed is None:
            return self._all_blocks
        mask, blocks = self._filtered_blocks
        if mask is not allowed:
            blocks = list(split_blocks(self._whole_block(allowed)))
            self._filtered_blocks = allowed, blocks
        return blocks

    def _whole_block(self, allowed: Mask | None) -> IdBlock:
        """All that the collection holds; allowed is what is in the snapshot, and in the mask where there is one."""
        found = self._held_rows >= 0
        if allowed is not None:
            found[found] = allowed[self._held_rows[found]]
        return IdBlock(self._held_ids, found, self._limits)

    def _search_block(self, queries: Descriptors, k: int, block: IdBlock) -> list[Found]:
        """The ``k`` nearest of a block; asked again for more where results are of no image in the snapshot, as those
        that a writer brought back since."""
        most = self._limits.results
        asked = min(k, most)
        while True:
            answer = self._collection.search(queries, asked, block.condition)
            found = [self._to_rows(*some) for some in answer]
            short = any(
                len(kept[1]) < min(k, asked) and len(some[1]) == asked for kept, some in zip(found, answer, strict=True)
            )
            if not short or asked == most:
                return found
            asked = min(4 * asked, most)

    def _to_rows(self, scores: Scores, image_ids: ImageIds) -> Found:
        """Results by row, without those of no image in the snapshot or of one that the structure in memory has."""
        rows = self._snapshot.rows_of(image_ids)
        kept = (rows >= 0) & ~np.isin(rows, self._missing_rows)
        return scores[kept], rows[kept]

    def _search_local(self, queries: Descriptors, k: int, allowed: Mask | None) -> list[Found]:
        if self._local is None:
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        mask = None if allowed is None else allowed[self._missing_rows]
        scores, found = self._local.search(queries, min(k, len(self._missing_rows)), mask)
        return [(some[at >= 0], self._missing_rows[at[at >= 0]]) for some, at in zip(scores, found, strict=True)]

    def _range_search_local(self, query: Descriptors, threshold: float, allowed: Mask | None) -> Found:
        if self._local is None:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        mask = None if allowed is None else allowed[self._missing_rows]
        scores, found = self._local.range_search(query, threshold, mask)
        return scores, self._missing_rows[found]


class FetchedDescriptors(DescriptorSource):
    """The descriptors of these images, fetched when they are asked for; zeros of one that is gone.

    Args:
        collection: open.
        image_ids: (n,), of the images.
        dim: length of a descriptor.
    """

    def __init__(self, collection: MilvusCollection, image_ids: ImageIds, dim: int) -> None:
        self.dim = dim
        self._collection = collection
        self._image_ids = image_ids

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        """(n, dim): the descriptors in these rows."""
        return self._collection.descriptors(self._image_ids[rows], self.dim)


def _best(found: list[Found], k: int | None) -> Found:
    """The ``k`` best of all, or all; equal scores by row."""
    scores, rows = best_first(np.concatenate([some for some, _ in found]), np.concatenate([at for _, at in found]))
    return scores[:k], rows[:k]
