"""Inverted lists of compressed descriptors around centroids, and the choice of the lists that a query searches."""

import math
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from glam.index.ann.base import DescriptorSource
from glam.index.ann.inner_products import inner_products
from glam.index.types import Descriptors, Rows, Scores

SEED = 1
"""Seed of the training sample and of k-means."""

LISTS = 2
"""Number of lists, as a multiple of the square root of the number of descriptors. benchmarks/search.py measures the
resulting speed and recall."""

WIDTHS = (8, 4, 2, 1)
"""Numbers of dimensions that may share a 4-bit code. The largest that divides the length of a descriptor and leaves at
least `CODES` codes is used."""

CODES = 64
"""Fewest codes per descriptor (arbitrary): 32 bytes."""

SAMPLE_PER_LIST = 200
"""Training descriptors per list (arbitrary; FAISS uses at most 256 by default)."""

ITERATIONS = 16
"""Iterations of k-means (arbitrary; the FAISS default for inverted files is 10)."""

AXES = 192
"""Principal axes of the centroids along which queries and centroids are compared: most centroids have hardly any
variance along other axes, and fewer axes make the comparison faster."""

SHARED_SCAN = 15
"""Implementation number of FAISS that scans the lists of one query with several threads and a reservoir. With 0, FAISS
chooses among its single-threaded implementations."""

BLOCK = 16_384
"""Descriptors read at a time (arbitrary)."""

NEAREST_WEIGHT = 0.5
"""Weight of the angle to the nearest centroid: a query far from all centroids must search lists at larger angles.
The value is arbitrary; `glam.index.ann.tuning` adapts the reach to it."""


class IvfLists:
    """A FAISS inverted file that searches all lists within an angle of the query, so easy queries search few lists.

    Args:
        index: the inverted file, with a flat quantizer. Whether FAISS uses several threads per query is decided here,
            by the current OpenMP setting.
    """

    def __init__(self, index: faiss.IndexIVFPQFastScan) -> None:
        self.index = index
        index.implem = SHARED_SCAN if faiss.omp_get_max_threads() > 1 else 0
        self._axes, self._coordinates = _principal(index.quantizer.reconstruct_n(0, index.nlist))

    @classmethod
    def train(cls, descriptors: DescriptorSource) -> Self:
        """Trains centroids and codes on a sample of the descriptors (n, dim). The lists are empty."""
        count, dim = len(descriptors), descriptors.dim
        lists = max(LISTS * math.isqrt(count), 1)
        width = next((width for width in WIDTHS if dim % width == 0 and dim // width >= CODES), 1)
        index = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(dim), dim, lists, dim // width, 4, faiss.METRIC_INNER_PRODUCT
        )
        index.by_residual = False  # one lookup table for all lists; exact scores make up for the lower precision
        index.cp.niter = ITERATIONS
        index.cp.max_points_per_centroid = SAMPLE_PER_LIST
        index.cp.spherical = True
        index.cp.seed = SEED
        drawn = np.random.default_rng(SEED).choice(count, min(SAMPLE_PER_LIST * lists, count), replace=False)
        index.train(np.ascontiguousarray(descriptors[np.sort(drawn)]))
        return cls(index)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def memory_bytes(self) -> int:
        """Memory in use, in bytes: codes padded to blocks of 32, row numbers, centroids with their axes, codebooks."""
        lists = self.index.invlists
        assert lists is not None
        sizes = np.array([lists.list_size(i) for i in range(self.index.nlist)])
        codes = int(((sizes + 31) // 32 * 32).sum()) * int(self.index.code_size)
        centroids = (self.index.nlist + int(self.index.pq.ksub)) * self.index.d * 4
        return codes + len(self) * 8 + centroids + self._axes.nbytes + self._coordinates.nbytes

    def excess(self, query: Descriptors, descriptors: Descriptors) -> NDArray[np.float32]:
        """The smallest reach at which a search with the query covers the lists of given descriptors.

        Args:
            query: (dim,) float32.
            descriptors: (n, dim) float32.

        Returns:
            (n,) float32 in radians; see `candidates`.
        """
        angles = self._angles(query)
        _, lists = self.index.quantizer.search(np.ascontiguousarray(descriptors), 1)
        excess: NDArray[np.float32] = angles[lists[:, 0]] - NEAREST_WEIGHT * angles.min()
        return excess

    def scan_near(
        self, query: Descriptors, reach: float, n: int, selector: faiss.IDSelector | None
    ) -> tuple[Scores, Rows, tuple[Scores, Rows]]:
        """Finds the best codes in the lists near a query, and in farther lists while there are fewer than ``n``.

        Args:
            query: (dim,) float32, contiguous.
            reach: angle in radians. A list is near if the angle between the query and its centroid is at most ``reach``
                plus `NEAREST_WEIGHT` times the angle to the nearest centroid.
            n: number of codes to find.
            selector: rows that may be found; None for all rows.

        Returns:
            (nlist,) float32 cosines of the query with the centroids, (m,) int64 numbers of the scanned lists, and the
            result of `scan`.
        """
        cosines = self._cosines(query)
        farthest = NEAREST_WEIGHT * math.acos(min(float(cosines.max()), 1)) + reach
        lists = np.flatnonzero(cosines >= math.cos(min(farthest, math.pi)))
        while True:  # usually once; a filter for another city, for example, needs more lists
            codes = self.scan(query, lists, n, selector)
            if len(codes[1]) == n or len(lists) >= len(cosines):
                return cosines, lists, codes
            lists = np.argsort(-cosines)[: max(4 * len(lists), 1)]

    def scan(self, query: Descriptors, lists: Rows, n: int, selector: faiss.IDSelector | None) -> tuple[Scores, Rows]:
        """Finds the best codes in some lists.

        Args:
            query: (dim,) float32, contiguous.
            lists: (m,) int64 numbers of the lists.
            n: number of codes to find.
            selector: rows that may be found; None for all rows.

        Returns:
            (c,) float32 approximate scores and (c,) int64 rows, in any order; c is ``n``, or less if the lists hold
            fewer rows.
        """
        scores, rows = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.int64)
        coarse = np.zeros(len(lists), dtype=np.float32)
        # The Python wrapper of this FAISS function accepts no selector.
        parameters = faiss.IVFSearchParameters(nprobe=len(lists), sel=selector)  # type: ignore[call-arg]
        pointers = [faiss.swig_ptr(array) for array in (query, lists, coarse, scores, rows)]
        self.index.search_preassigned_c(1, pointers[0], n, *pointers[1:], False, parameters)  # type: ignore[attr-defined]
        return scores[rows >= 0], rows[rows >= 0]

    def closeness(self, descriptors: Descriptors) -> float:
        """Mean cosine of (n, dim) descriptors with the centroids of their lists."""
        cosines, _ = self.index.quantizer.search(np.ascontiguousarray(descriptors), 1)
        return float(cosines.mean())

    def part(self, rows: Rows, descriptors: DescriptorSource) -> faiss.IndexPQFastScan:
        """A separate index of the codes of given rows.

        Args:
            rows: (m,) int64.
            descriptors: source of the descriptors.

        Returns:
            A FAISS index with m codes, in the order of ``rows``.
        """
        index = self.index
        part = faiss.IndexPQFastScan(index.d, index.pq.M, index.pq.nbits, faiss.METRIC_INNER_PRODUCT)
        part.pq = index.pq
        part.is_trained = True
        for start in range(0, len(rows), BLOCK):
            part.add(np.ascontiguousarray(descriptors[rows[start : start + BLOCK]]))
        return part

    def _cosines(self, query: Descriptors) -> Scores:
        """Cosines (lists,) of a query with the centroids, computed along the axes."""
        return inner_products(inner_products(query, self._axes), self._coordinates)

    def _angles(self, query: Descriptors) -> NDArray[np.float32]:
        angles: NDArray[np.float32] = np.arccos(np.clip(self._cosines(query), -1, 1))
        return angles


def _principal(centroids: Descriptors) -> tuple[Descriptors, Descriptors]:
    """The principal axes (a, dim) of centroids (n, dim), and the coordinates (n, a) of the centroids along them."""
    # NumPy instead of `glam.principal_axes`, which would load PyTorch for every search.
    _, vectors = np.linalg.eigh(centroids.T.astype(np.float64) @ centroids)
    axes = np.ascontiguousarray(vectors[:, : -AXES - 1 : -1].T, dtype=np.float32)
    return axes, np.ascontiguousarray(centroids @ axes.T)
