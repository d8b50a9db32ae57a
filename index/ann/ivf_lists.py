"""Lists of compressed descriptors around centroids, and which of them a query looks into."""

import math
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from glam.index.ann.base import DescriptorSource
from glam.index.ann.inner_products import inner_products
from glam.index.types import Descriptors, Rows, Scores

SEED = 1
LISTS = 2
"""So many times the root of the number of descriptors."""

WIDTHS = (8, 4, 2, 1)
"""Numbers of a descriptor that may share 4 bits: as many as go into its length and leave it `CODES` codes."""

CODES = 64

SAMPLE_PER_LIST = 200
ITERATIONS = 16
"""Of k-means."""

AXES = 192
"""Principal axes of the centroids that a query is compared along: most of them have next to nothing beyond these."""

SHARED_SCAN = 15
"""FAISS's number for a scan of one query's lists by several threads, the best codes kept in a reservoir; 0: it chooses
among those of one thread."""

BLOCK = 16_384
"""Descriptors read at a time."""

NEAREST_WEIGHT = 0.5
"""How much of the nearest centroid's angle counts: a query far from all centroids has to look into more lists."""


class IvfLists:
    """A FAISS inverted file whose lists are chosen by angle, so that easy queries look into few.

    Args:
        index: the inverted file; its quantizer is flat. FAISS may use several threads for a query where it may now.
    """

    def __init__(self, index: faiss.IndexIVFPQFastScan) -> None:
        self.index = index
        index.implem = SHARED_SCAN if faiss.omp_get_max_threads() > 1 else 0
        self._axes, self._coordinates = _principal(index.quantizer.reconstruct_n(0, index.nlist))

    @classmethod
    def train(cls, descriptors: DescriptorSource) -> Self:
        """Empty lists around centroids of a sample of the descriptors."""
        count, dim = len(descriptors), descriptors.dim
        lists = max(LISTS * math.isqrt(count), 1)
        width = next((width for width in WIDTHS if dim % width == 0 and dim // width >= CODES), 1)
        index = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(dim), dim, lists, dim // width, 4, faiss.METRIC_INNER_PRODUCT
        )
        index.by_residual = False  # one table of products for all lists; what is lost by it exact scores make good
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
        """Of codes, padded to whole blocks of 32, row numbers, centroids with their axes, and the quantizer's table."""
        lists = self.index.invlists
        assert lists is not None
        sizes = np.array([lists.list_size(i) for i in range(self.index.nlist)])
        codes = int(((sizes + 31) // 32 * 32).sum()) * int(self.index.code_size)
        centroids = (self.index.nlist + int(self.index.pq.ksub)) * self.index.d * 4
        return codes + len(self) * 8 + centroids + self._axes.nbytes + self._coordinates.nbytes

    def excess(self, query: Descriptors, descriptors: Descriptors) -> NDArray[np.float32]:
        """The reach, in radians, from which on each of these descriptors is in a list that the query looks into."""
        angles = self._angles(query)
        _, lists = self.index.quantizer.search(np.ascontiguousarray(descriptors), 1)
        excess: NDArray[np.float32] = angles[lists[:, 0]] - NEAREST_WEIGHT * angles.min()
        return excess

    def near(self, query: Descriptors, reach: float) -> tuple[Scores, Rows]:
        """Cosines of a query, (dim,), with all centroids, (nlist,), and the lists up to an angle, (m,).

        Args:
            query: (dim,).
            reach: the angle in radians, to which `NEAREST_WEIGHT` of the nearest centroid's angle is added.
        """
        cosines = self._cosines(query)
        farthest = NEAREST_WEIGHT * math.acos(min(float(cosines.max()), 1)) + reach
        return cosines, np.flatnonzero(cosines >= math.cos(min(farthest, math.pi)))

    def scan(self, query: Descriptors, lists: Rows, n: int, selector: faiss.IDSelector | None) -> tuple[Scores, Rows]:
        """The ``n`` best codes in some lists, or fewer: approximate scores and rows, (m,) each, in any order.

        Args:
            query: (dim,).
            lists: numbers of the lists.
            n: most codes.
            selector: which rows may be found; None for all.
        """
        scores, rows = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.int64)
        coarse = np.zeros(len(lists), dtype=np.float32)
        # FAISS's Python form of this function takes no selector.
        parameters = faiss.IVFSearchParameters(nprobe=len(lists), sel=selector)  # type: ignore[call-arg]
        pointers = [faiss.swig_ptr(array) for array in (query, lists, coarse, scores, rows)]
        self.index.search_preassigned_c(1, pointers[0], n, *pointers[1:], False, parameters)  # type: ignore[attr-defined]
        return scores[rows >= 0], rows[rows >= 0]

    def closeness(self, descriptors: Descriptors) -> float:
        """Mean cosine of (n, dim) descriptors with the centroids of their lists."""
        cosines, _ = self.index.quantizer.search(np.ascontiguousarray(descriptors), 1)
        return float(cosines.mean())

    def part(self, rows: Rows, descriptors: DescriptorSource) -> faiss.IndexPQFastScan:
        """The codes of some rows by themselves, in their order."""
        index = self.index
        part = faiss.IndexPQFastScan(index.d, index.pq.M, index.pq.nbits, faiss.METRIC_INNER_PRODUCT)
        part.pq = index.pq
        part.is_trained = True
        for start in range(0, len(rows), BLOCK):
            part.add(np.ascontiguousarray(descriptors[rows[start : start + BLOCK]]))
        return part

    def _cosines(self, query: Descriptors) -> Scores:
        """Of a query with the centroids, along the axes."""
        return inner_products(inner_products(query, self._axes), self._coordinates)

    def _angles(self, query: Descriptors) -> NDArray[np.float32]:
        angles: NDArray[np.float32] = np.arccos(np.clip(self._cosines(query), -1, 1))
        return angles


def _principal(centroids: Descriptors) -> tuple[Descriptors, Descriptors]:
    """The principal axes of centroids (n, dim), (a, dim), and where the centroids lie along them, (n, a)."""
    # NumPy and not `glam.principal_axes`: nothing else here needs PyTorch, which a search would then load.
    _, vectors = np.linalg.eigh(centroids.T.astype(np.float64) @ centroids)
    axes = np.ascontiguousarray(vectors[:, : -AXES - 1 : -1].T, dtype=np.float32)
    return axes, np.ascontiguousarray(centroids @ axes.T)
