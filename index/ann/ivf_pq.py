"""Approximate search: inverted lists of compressed descriptors (IVF-PQ), with exact scores of the candidates.

    query --> lists of the nearest centroids --> 4-bit codes, compared in registers --> best candidates --> exact scores
          <-- more lists and more candidates, until better rows are unlikely --------------------------------'

The lists come from k-means (Sivic and Zisserman, ICCV 2003), and the codes from product quantization (Jégou, Douze, and
Schmid, PAMI 2011) in the layout of André, Kermarrec, and Le Scouarnec (PAMI 2021); FAISS implements all of them. Scores
are computed from the descriptors: codes only choose the candidates.
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
from glam.index.ann.rescore import Candidates, best_first, best_of, bitmap, scan, stack_results
from glam.index.ann.tuning import SEED, Tuning, sample_rows, tune
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 65_536
"""Descriptors read at a time (arbitrary)."""

SCANNED = 500
"""Most allowed rows that are searched by brute force (arbitrary)."""

SEPARATE = 50_000
"""Most allowed rows whose codes are copied into an index of their own, which all queries with the same filter share:
the lists near a query hold hardly any of so few rows. The number is arbitrary."""

PARTS_CACHED = 8
"""Size of the LRU cache of these indexes (arbitrary). An index of 50,000 rows with 64 codes takes 1.6 MB."""

SPREAD = 0.1
"""Rows whose cosine with a query is s are in lists whose centroids have a cosine of at least ``closeness * s - SPREAD``
with it, where ``closeness`` is the mean cosine of a row with its centroid. 0.1 covers 97% of the neighbors of queries
unlike all rows, and nearly all neighbors of rows (benchmarks/ann_loss.py)."""

FIRST = 50
"""Results in the first search of a range search (arbitrary)."""


class IvfPq:
    """A `glam.index.ann.Structure` of inverted lists with product-quantized codes. It may miss rows.

    Args:
        lists: the inverted lists.
        descriptors: source of the descriptors, for exact scores.
        tuning: how many lists and candidates a search needs.
        scanned: most allowed rows that are searched by brute force.
    """

    kind = "ivf_pq"

    def __init__(self, lists: IvfLists, descriptors: DescriptorSource, tuning: Tuning, scanned: int = SCANNED) -> None:
        self._lists = lists
        self._descriptors = descriptors
        self._tuning = tuning
        self._scanned = scanned
        self._part = lru_cache(PARTS_CACHED)(self._separate)

    @classmethod
    def build(cls, descriptors: DescriptorSource, scanned: int = SCANNED) -> Self:
        """Builds a structure of all descriptors, and tunes it to the recall in `glam.index.ann.tuning`.

        Args:
            descriptors: (n, dim).
            scanned: most allowed rows that are searched by brute force.
        """
        lists = IvfLists.train(descriptors)
        for start in range(0, len(descriptors), BLOCK):
            lists.index.add(np.ascontiguousarray(descriptors[start : start + BLOCK]))
        return cls(lists, descriptors, tune(lists, descriptors), scanned)

    @classmethod
    def read(cls, path: Path, descriptors: DescriptorSource) -> Self:
        """Reads a structure that `write` has written.

        Args:
            path: path of the file.
            descriptors: source of the descriptors; it may have more rows than the structure.

        Raises:
            GlamError: the file is damaged.
        """
        file = read_file(path)
        if not isinstance(file.index, faiss.IndexIVFPQFastScan):
            raise GlamError(
                f"The search structure {path} is damaged. Delete {path.parent}; it is a cache and will be rebuilt."
            )
        lists, facts = IvfLists(file.index), file.facts["tuning"]
        if "closeness" not in facts:  # earlier versions did not store it
            rows = sample_rows(len(descriptors), np.random.default_rng(SEED))
            facts = {**facts, "closeness": lists.closeness(descriptors[rows])}
        return cls(lists, descriptors, Tuning.from_dict(facts))

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def tuning(self) -> Tuning:
        """How many lists and candidates a search needs, and the recall measured when the structure was built."""
        return self._tuning

    @property
    def memory_bytes(self) -> int:
        """Memory of the lists, in bytes."""
        return self._lists.memory_bytes

    def add(self, descriptors: Descriptors) -> None:
        """See `glam.index.ann.Structure.add`.

        Args:
            descriptors: (n, dim) float32, which the source must hold too.

        Raises:
            ValueError: the source has too few rows.
        """
        if len(self) + len(descriptors) > len(self._descriptors):
            raise ValueError(
                f"the structure would have {len(self) + len(descriptors)} rows, but its source has only "
                f"{len(self._descriptors)}"
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
        if allowed is not None and count <= SEPARATE:
            search = partial(self._search_part, *self._part(np.packbits(allowed).tobytes()))
        else:
            selector = None if allowed is None or count == len(self) else bitmap(allowed)
            search = partial(self._search_lists, selector, reach)
        return stack_results([search(query, k, n) for query in queries], k)

    def _search_lists(
        self, selector: faiss.IDSelector | None, reach: float, query: Descriptors, k: int, n: int
    ) -> tuple[Scores, Rows]:
        """Searches the lists near a query, and the lists that may hold better rows than those.

        Args:
            selector: rows that may be found; None for all rows.
            reach: see `IvfLists.scan_near`.
            query: (dim,) float32, contiguous.
            k: most results.
            n: candidates to begin with.

        Returns:
            See `best_of`.
        """
        cosines, lists, codes = self._lists.scan_near(query, reach, n, selector)
        candidates = Candidates.score(self._descriptors, query, codes)
        least_cosine = self._tuning.closeness * candidates.kth_score(k) - SPREAD
        wider = np.union1d(lists, np.flatnonzero(cosines >= least_cosine))

        def best_candidates(count: int) -> Candidates:
            return Candidates.score(self._descriptors, query, self._lists.scan(query, wider, count, selector))

        if len(wider) > len(lists):
            candidates = best_candidates(n)
        return best_of(candidates, k, n, best_candidates)

    def _search_part(
        self, part: faiss.IndexPQFastScan, allowed: Rows, query: Descriptors, k: int, n: int
    ) -> tuple[Scores, Rows]:
        """Searches (m,) allowed rows, whose codes are in ``part``; see `_search_lists`."""

        def best_candidates(count: int) -> Candidates:
            scores, rows = part.search(query[None], min(count, len(allowed)))
            is_found = rows[0] >= 0
            return Candidates.score(self._descriptors, query, (scores[0, is_found], allowed[rows[0, is_found]]))

        return best_of(best_candidates(n), k, n, best_candidates)

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.range_search`."""
        query = np.ascontiguousarray(query, dtype=np.float32).reshape(1, -1)
        most = len(self) if allowed is None else int(np.count_nonzero(allowed))
        k = min(FIRST, max(most, 1))
        scores, rows = self.search(query, k, allowed)
        while k < most and scores[0, -1] >= threshold:
            k = min(4 * k, most)
            scores, rows = self.search(query, k, allowed)
        found = (scores[0] >= threshold) & (rows[0] >= 0)
        return best_first(scores[0, found], rows[0, found])

    def _separate(self, packed: bytes) -> tuple[faiss.IndexPQFastScan, Rows]:
        """An index of the codes of the allowed rows, and these rows (m,); the mask is packed into bits."""
        rows = np.flatnonzero(np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=len(self)))
        return self._lists.part(rows, self._descriptors), rows

    def write(self, path: Path) -> None:
        """Writes the lists, codes, and tuning to a file."""
        write_file(path, self._lists.index, {"kind": self.kind, "tuning": self._tuning.to_dict()})
