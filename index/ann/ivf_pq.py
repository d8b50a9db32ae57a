"""Inverted lists of compressed descriptors, and exact scores for what they find.

    query --> lists whose centroids are near --> 4-bit codes, compared in registers --> best candidates --> exact scores
          <-- more lists, and more candidates, while better rows are likely ----------------------------<--

Lists come from k-means (Sivic and Zisserman, ICCV 2003), codes from product quantization (Jégou, Douze and Schmid, PAMI
2011) in the layout of André, Kermarrec and Le Scouarnec (PAMI 2021), all by FAISS. Candidates are scored again by their
own descriptors: codes decide what is looked at, never a score.
"""

from functools import lru_cache, partial
from pathlib import Path
from typing import Self

import faiss
import numpy as np

from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource
from glam.index.ann.file import read_file, write_file
from glam.index.ann.ivf_lists import IvfLists
from glam.index.ann.rescore import best_first, best_of, bitmap, kth_best, scan, stacked
from glam.index.ann.tuning import Tuning, sample, tune
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 65_536
"""Descriptors read at a time."""

SCANNED = 500
"""So few allowed rows are scored one by one."""

SET_APART = 50_000
"""Of so few allowed rows the codes are set apart, for all queries with the same filter: the lists near a query hold
hardly any of them."""

PARTS_KEPT = 8
"""Filters whose codes are kept, half a byte for each number that shares a code."""

SPREAD = 0.1
"""A query finds rows of a cosine s in lists whose centroids have a cosine of at least ``closeness s - SPREAD`` with it,
if rows have a cosine of ``closeness`` with their centroids on average: less would miss 1% of the neighbors of queries
unlike all rows (benchmarks/ann_loss.py)."""

FIRST = 50
"""Results that a range search begins with."""


class IvfPq:
    """Inverted lists with product-quantized codes; exact scores come from the index's own descriptors."""

    kind = "ivf_pq"

    def __init__(self, lists: IvfLists, descriptors: DescriptorSource, tuning: Tuning, scanned: int = SCANNED) -> None:
        self._lists = lists
        self._descriptors = descriptors
        self._tuning = tuning
        self._scanned = scanned
        self._part = lru_cache(PARTS_KEPT)(self._set_apart)

    @classmethod
    def build(cls, descriptors: DescriptorSource, scanned: int = SCANNED) -> Self:
        """A structure of all of ``descriptors``, that looks as far as its own data needs.

        Args:
            descriptors: (n, dim).
            scanned: brute force when at most this many rows may be found.
        """
        lists = IvfLists.train(descriptors)
        for start in range(0, len(descriptors), BLOCK):
            lists.index.add(np.ascontiguousarray(descriptors[start : start + BLOCK]))
        return cls(lists, descriptors, tune(lists, descriptors), scanned)

    @classmethod
    def read(cls, path: Path, descriptors: DescriptorSource) -> Self:
        """The structure that `write` wrote."""
        file = read_file(path)
        if not isinstance(file.index, faiss.IndexIVFPQFastScan):
            raise GlamError(f"{path}: not inverted lists")
        lists, facts = IvfLists(file.index), file.facts["tuning"]
        closeness = facts.get("closeness") or lists.closeness(sample(descriptors))  # earlier versions did not store it
        return cls(lists, descriptors, Tuning.from_dict({**facts, "closeness": closeness}))

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def tuning(self) -> Tuning:
        """How far it looks, and the recall that gave when it was built."""
        return self._tuning

    @property
    def memory_bytes(self) -> int:
        """Of the lists."""
        return self._lists.memory_bytes

    def add(self, descriptors: Descriptors) -> None:
        """Adds (n, dim) descriptors, which the index's descriptors have to hold too.

        Raises:
            ValueError: they do not.
        """
        if len(self) + len(descriptors) > len(self._descriptors):
            raise ValueError(
                f"{len(self) + len(descriptors)} rows in the structure, but {len(self._descriptors)} in its source"
            )
        self._lists.index.add(np.ascontiguousarray(descriptors, dtype=np.float32))

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        count = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if count <= max(self._scanned, k):
            return scan(self._descriptors, np.arange(count) if allowed is None else np.flatnonzero(allowed), queries, k)
        share = count / len(self)
        reach, n = self._tuning.reach(k, share), min(self._tuning.candidates(k, share), count)
        if allowed is not None and count <= SET_APART:
            search = partial(self._search_part, *self._part(np.packbits(allowed).tobytes()))
        else:
            selector = None if allowed is None or count == len(self) else bitmap(allowed)
            search = partial(self._search_lists, selector, reach)
        return stacked([search(query, k, n) for query in queries], k)

    def _search_lists(
        self, selector: faiss.IDSelector | None, reach: float, query: Descriptors, k: int, n: int
    ) -> tuple[Scores, Rows]:
        """The best of a query in the lists within reach, and in the lists that may hold better than those found."""
        cosines, near = self._lists.near(query, reach)
        first = self._lists.scan(query, near, n, selector)
        found = kth_best(self._descriptors.inner_products(query, np.sort(first[1])), k)
        lists = np.union1d(near, np.flatnonzero(cosines >= self._tuning.closeness * found - SPREAD))

        def codes(most: int) -> tuple[Scores, Rows]:
            is_same = most == n and len(lists) == len(near)
            return first if is_same else self._lists.scan(query, lists, most, selector)

        return best_of(self._descriptors, query, k, n, codes)

    def _search_part(
        self, part: faiss.IndexPQFastScan, allowed: Rows, query: Descriptors, k: int, n: int
    ) -> tuple[Scores, Rows]:
        """The best of a query among the allowed rows, whose codes are in ``part``."""

        def codes(most: int) -> tuple[Scores, Rows]:
            scores, rows = part.search(query[None], min(most, len(allowed)))
            return scores[0, rows[0] >= 0], allowed[rows[0, rows[0] >= 0]]

        return best_of(self._descriptors, query, k, n, codes)

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.range_search`; here some may be missed, as in a search."""
        query = np.ascontiguousarray(query, dtype=np.float32).reshape(1, -1)
        most = len(self) if allowed is None else int(np.count_nonzero(allowed))
        k = min(FIRST, max(most, 1))
        scores, rows = self.search(query, k, allowed)
        while k < most and scores[0, -1] >= threshold:
            k = min(4 * k, most)
            scores, rows = self.search(query, k, allowed)
        kept = (scores[0] >= threshold) & (rows[0] >= 0)
        return best_first(scores[0, kept], rows[0, kept])

    def _set_apart(self, packed: bytes) -> tuple[faiss.IndexPQFastScan, Rows]:
        """The codes of the allowed rows, and these rows; a byte of the packed mask covers eight rows."""
        rows = np.flatnonzero(np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=len(self)))
        return self._lists.part(rows, self._descriptors), rows

    def write(self, path: Path) -> None:
        """Writes lists, codes and tuning to one file."""
        write_file(path, self._lists.index, {"kind": self.kind, "tuning": self._tuning.to_dict()})
