"""Search in a collection, as `glam.index.ann.Structure`: the same questions, the same answers.

    Index --search, range_search--> MilvusSearch --parts, MilvusCollection.search--> the best of all parts
                                             --what the collection lacks--> a structure in memory

Milvus gives at most `MilvusLimits.results` a query, so whoever wants more gets them in parts, by ids.
"""

from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.ann import DescriptorSource, Structure, build_structure
from glam.index.ann.rescore import best_first
from glam.index.milvus.collection import Found, MilvusCollection
from glam.index.milvus.filter_expressions import IdBlock, parts
from glam.index.storage.snapshot import Snapshot
from glam.index.types import Descriptors, ImageIds, Mask, Rows, Scores


class MilvusSearch:
    """The images of a snapshot, by their places in it.

    Args:
        collection: open.
        snapshot: the images that may be found.
        held: (n,) ids that the collection holds, rising; some may be of no image in the snapshot.
    """

    kind = "milvus"

    def __init__(self, collection: MilvusCollection, snapshot: Snapshot, held: ImageIds) -> None:
        self._collection = collection
        self._limits = collection.limits
        self._snapshot = snapshot
        self._held = held
        self._places = snapshot.find(held)
        lacking = np.ones(len(snapshot.image_ids), dtype=np.bool_)
        lacking[self._places[self._places >= 0]] = False
        self._lacking: Rows = np.flatnonzero(lacking)
        if snapshot.is_bare and len(self._lacking):
            raise GlamError(
                f"{len(self._lacking)} images are not in the {collection.place} yet, and this copy of the index has no "
                "descriptors of its own; copy its catalog again when no writer is at work"
            )
        self._beside: Structure | None = (
            build_structure(snapshot.stored(snapshot.image_ids[self._lacking])) if len(self._lacking) else None
        )

        self._whole = list(parts(self._part(None)))
        self._filtered: tuple[Mask | None, list[IdBlock]] = None, []

    def __len__(self) -> int:
        return len(self._snapshot.image_ids)

    @property
    def memory_bytes(self) -> int:
        """On this machine: ids, and what the collection lacks."""
        return self._held.nbytes + self._places.nbytes + (self._beside.memory_bytes if self._beside else 0)

    def add(self, rows: Descriptors) -> None:
        """Not here: a writer puts images into the collection."""
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Not here: the collection is on its server."""
        raise NotImplementedError

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.search`."""
        found = self._search_beside(queries, k, allowed)
        most = self._limits.results
        for part in self._parts(allowed) if k <= most else parts(self._part(allowed), most):
            for i, more in enumerate(self._search_part(queries, k, part)):
                found[i] = _best([found[i], more], k)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        for i, (some, at) in enumerate(found):
            scores[i, : len(at)], positions[i, : len(at)] = some, at
        return scores, positions

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.range_search`."""
        query = np.ascontiguousarray(query, dtype=np.float32).reshape(1, -1)
        found = [self._range_beside(query, threshold, allowed)]
        below = float(np.nextafter(np.float32(threshold), np.float32(-2)))
        waiting, most = list(self._parts(allowed)), self._limits.results
        while waiting:
            part = waiting.pop()
            ((scores, image_ids),) = self._collection.search(query, most, part.condition, below)
            if len(image_ids) == most and part.count > 1:
                waiting.extend(part.halves())
            else:
                found.append(self._known(scores, image_ids))
        return _best(found, None)

    def _parts(self, allowed: Mask | None) -> list[IdBlock]:
        """The parts to search, remembered for no filter and for the last: to cut them takes longer than a search."""
        if allowed is None:
            return self._whole
        mask, cut = self._filtered
        if mask is not allowed:
            cut = list(parts(self._part(allowed)))
            self._filtered = allowed, cut
        return cut

    def _part(self, allowed: Mask | None) -> IdBlock:
        """All that the collection holds; allowed is what is in the snapshot, and in the mask where there is one."""
        found = self._places >= 0
        if allowed is not None:
            found[found] = allowed[self._places[found]]
        return IdBlock(self._held, found, self._limits)

    def _search_part(self, queries: Descriptors, k: int, part: IdBlock) -> list[Found]:
        """The ``k`` nearest of a part; asked again for more where results are of no image in the snapshot, as those
        that a writer brought back since."""
        most = self._limits.results
        asked = min(k, most)
        while True:
            answer = self._collection.search(queries, asked, part.condition)
            found = [self._known(*some) for some in answer]
            short = any(
                len(kept[1]) < min(k, asked) and len(some[1]) == asked for kept, some in zip(found, answer, strict=True)
            )
            if not short or asked == most:
                return found
            asked = min(4 * asked, most)

    def _known(self, scores: Scores, image_ids: ImageIds) -> Found:
        """Results as positions, without those of no image in the snapshot or of one that is searched beside."""
        positions = self._snapshot.find(image_ids)
        kept = (positions >= 0) & ~np.isin(positions, self._lacking)
        return scores[kept], positions[kept]

    def _search_beside(self, queries: Descriptors, k: int, allowed: Mask | None) -> list[Found]:
        if self._beside is None:
            return [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
        mask = None if allowed is None else allowed[self._lacking]
        scores, places = self._beside.search(queries, min(k, len(self._lacking)), mask)
        return [(some[at >= 0], self._lacking[at[at >= 0]]) for some, at in zip(scores, places, strict=True)]

    def _range_beside(self, query: Descriptors, threshold: float, allowed: Mask | None) -> Found:
        if self._beside is None:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        mask = None if allowed is None else allowed[self._lacking]
        scores, places = self._beside.range_search(query, threshold, mask)
        return scores, self._lacking[places]


class FetchedDescriptors(DescriptorSource):
    """The descriptors of these images, fetched when they are asked for; zeros of one that is gone.

    Args:
        collection: open.
        ids: (n,) of the images.
        dim: length of a descriptor.
    """

    def __init__(self, collection: MilvusCollection, image_ids: ImageIds, dim: int) -> None:
        self.dim = dim
        self._collection = collection
        self._ids = image_ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, positions: slice | Rows) -> Descriptors:
        """(n, dim): those at these positions."""
        return self._collection.rows(self._ids[positions], self.dim)


def _best(found: list[Found], k: int | None) -> Found:
    """The ``k`` best of all, or all; equal scores by position."""
    scores, positions = best_first(np.concatenate([some for some, _ in found]), np.concatenate([at for _, at in found]))
    return scores[:k], positions[:k]
