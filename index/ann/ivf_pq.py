"""Inverted lists of compressed descriptors, and exact scores for what they find.

    query --> lists whose centroids are near --> 4-bit codes, compared in registers --> best candidates --> exact scores

Lists come from k-means (Sivic and Zisserman, ICCV 2003), codes from product quantization (Jégou, Douze and Schmid, PAMI
2011) in the layout of André, Kermarrec and Le Scouarnec (PAMI 2021), all by FAISS. Candidates are scored again by their
own descriptors: codes decide what is looked at, never a score.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Self

import faiss
import numpy as np

from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource
from glam.index.ann.file import read_file, write_file
from glam.index.ann.ivf_lists import IvfLists
from glam.index.ann.rescore import best_first, best_of, bitmap, scan
from glam.index.ann.tuning import Tuning, tune
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
        return cls(IvfLists(file.index), descriptors, Tuning.from_dict(file.facts["tuning"]))

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
        reach, wanted = self._tuning.reach(k, share), min(self._tuning.candidates(k, share), count)
        if allowed is not None and count <= SET_APART:
            part, rows = self._part(np.packbits(allowed).tobytes())
            candidates: Iterator[Rows] = iter(rows[part.search(queries, wanted)[1]])
        else:
            selector = None if allowed is None or count == len(self) else bitmap(allowed)
            candidates = (self._lists.candidates(query, wanted, reach, selector) for query in queries)
        return best_of(self._descriptors, candidates, queries, k)

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
