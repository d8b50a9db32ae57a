"""Approximate search: inverted lists of compressed descriptors (IVF-PQ), with exact scores of the candidates.

    query --> lists of the nearest centroids --> 4-bit codes, compared in registers --> best candidates --> exact scores
          <-- farther lists that may hold better rows -------------------------------------------------------'

The lists come from k-means (Sivic and Zisserman, ICCV 2003), and the codes from product quantization (Jégou, Douze, and
Schmid, PAMI 2011) in the layout of André, Kermarrec, and Le Scouarnec (PAMI 2021); FAISS implements all of them. Scores
are computed from the descriptors: codes only choose the candidates.
"""

from functools import lru_cache
from pathlib import Path
from typing import Self

import faiss
import numpy as np

from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource
from glam.index.ann.file import read_file, write_file
from glam.index.ann.ivf_lists import IvfLists
from glam.index.ann.rescore import best_first, best_of, bitmap, kth_best, scan, score
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

SPREAD = 0.15
"""Rows whose cosine with a query is s are in lists whose centroids have a cosine of at least ``closeness * s - SPREAD``
with it, where ``closeness`` is the mean cosine of a row with its centroid. Chosen by benchmarks/ann_loss.py and
benchmarks/search.py: among 1,000,000 distractors, the top 10 of queries unlike all rows lose 29.4 mAP without these
lists, 3.2 with 0.1, 1.4 with 0.15, and 1.1 with 0.2; queries like the rows take 1.0, 1.2, and 1.7 times as long."""

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
            part, rows = self._part(np.packbits(allowed).tobytes())
            found = (rows[some[some >= 0]] for some in part.search(queries, n)[1])
            pairs = zip(queries, found, strict=True)
            return best_of([score(self._descriptors, query, candidates) for query, candidates in pairs], k)
        selector = None if allowed is None or count == len(self) else bitmap(allowed)
        return best_of([self._score_candidates(query, k, n, reach, selector) for query in queries], k)

    def _score_candidates(
        self, query: Descriptors, k: int, n: int, reach: float, selector: faiss.IDSelector | None
    ) -> tuple[Scores, Rows]:
        """Scores the candidates of a query from the lists near it, and from all lists that may hold better rows.

        Args:
            query: (dim,) float32, contiguous.
            k: results per query.
            n: most candidates.
            reach: see `IvfLists.scan_near`.
            selector: rows that may be found; None for all rows.

        Returns:
            See `glam.index.ann.rescore.score`.
        """
        cosines, near, (_, rows) = self._lists.scan_near(query, reach, n, selector)
        scored = score(self._descriptors, query, rows)
        least_cosine = self._tuning.closeness * kth_best(scored[0], k) - SPREAD
        lists = np.union1d(near, np.flatnonzero(cosines >= least_cosine))
        if len(lists) == len(near):
            return scored
        return score(self._descriptors, query, self._lists.scan(query, lists, n, selector)[1])

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
