"""Exact search on a GPU: candidates by float16 inner products, exact scores, and a proof that no row is missed.

    queries --kernels.top_k--> candidates and approximate scores --inner products in float32--> the best k
            <--more candidates, until no other row can score as high as the k-th--

The search is bound by memory bandwidth, and a float16 copy of the descriptors halves the bytes it reads. The error of
an approximate score is at most the rounding errors of the descriptor and of the query, |x - float16(x)|. So the exact
score of a row that is not a candidate is at most the approximate score of the last candidate plus this bound. If the
k-th exact score is not above that, the search takes more candidates.
"""

from functools import lru_cache
from pathlib import Path
from typing import Self

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glam.index.ann.base import DescriptorSource
from glam.index.ann.exact import Exact
from glam.index.ann.file import write_file
from glam.index.ann.rescore import best_first
from glam.index.types import Descriptors, Mask, Rows, Scores
from glam.kernels import top_k
from glam.kernels.top_k import MAX_K

BLOCK = 262_144
"""Descriptors copied to the GPU at a time (arbitrary): 512 MB at 512 dimensions."""

EXTRA = 22
"""Candidates in addition to the k results: 32 for ten results (benchmarks/search_gpu.py)."""

GATHERED_BYTES = 256 << 20
"""Most bytes of descriptors that one exact scoring step gathers (arbitrary)."""

GATHERED_SHARE = 0.5
"""Share of allowed rows below which they are gathered into a matrix of their own (arbitrary). Above it, the search
covers all rows and takes more candidates."""

FILTERS_CACHED = 2
"""Filters whose gathered rows stay on the GPU (arbitrary)."""


class ExactGpu:
    """A `glam.index.ann.Structure` that searches by brute force on one GPU, with PyTorch and Triton. It misses no row.

    Args:
        dim: length of a descriptor.
        device: a CUDA device. On the CPU, which the tests use, the plain forms of the kernels run.
    """

    kind = Exact.kind

    def __init__(self, dim: int, device: torch.device) -> None:
        self._device = device
        self._full = torch.empty((0, dim), device=device)
        self._half = self._full.half()
        self._rounding = 0.0
        self._gathered = lru_cache(FILTERS_CACHED)(self._gather)

    @classmethod
    def build(cls, descriptors: DescriptorSource, device: torch.device) -> Self:
        """Builds a structure of all descriptors.

        Args:
            descriptors: (n, dim).
            device: device that holds them.

        Raises:
            RuntimeError: the device does not exist or has too little memory.
        """
        structure = cls(descriptors.dim, device)
        count = len(descriptors)
        structure._full = torch.empty((count, descriptors.dim), device=device)
        structure._half = torch.empty((count, descriptors.dim), device=device, dtype=torch.float16)
        for start in range(0, count, BLOCK):
            structure._put(start, descriptors[start : min(start + BLOCK, count)])
        return structure

    def __len__(self) -> int:
        return len(self._full)

    @property
    def memory_bytes(self) -> int:
        """Size of the float32 and float16 copies of the descriptors on the GPU, in bytes."""
        return self._full.nbytes + self._half.nbytes

    def add(self, descriptors: Descriptors) -> None:
        """See `glam.index.ann.Structure.add`."""
        start, room = len(self), (len(descriptors), self._full.shape[1])
        self._full = torch.cat([self._full, self._full.new_empty(room)])
        self._half = torch.cat([self._half, self._half.new_empty(room)])
        self._gathered.cache_clear()
        self._put(start, descriptors)

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.search`."""
        queries = np.array(queries, dtype=np.float32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        count = len(self) if allowed is None else int(np.count_nonzero(allowed))
        found = min(k, count)
        if found:
            packed = None if allowed is None or count == len(self) else np.packbits(allowed).tobytes()
            with torch.inference_mode():
                scores[:, :found], rows[:, :found] = self._search(queries, found, count, packed)
        return scores, rows

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.range_search`."""
        on_device = torch.from_numpy(np.array(query, dtype=np.float32).reshape(-1)).to(self._device)
        with torch.inference_mode():
            all_scores = self._full @ on_device
            found = all_scores >= threshold
            if allowed is not None:
                found &= torch.from_numpy(np.array(allowed)).to(self._device)
            rows = found.nonzero().flatten()
            scores = all_scores[rows]
        return best_first(scores.cpu().numpy(), rows.cpu().numpy())

    def write(self, path: Path) -> None:
        """Writes the number of rows; see `Exact.write`."""
        write_file(path, faiss.IndexFlatIP(self._full.shape[1]), {"kind": self.kind, "rows": len(self)})

    def _put(self, start: int, descriptors: Descriptors) -> None:
        """Copies (n, dim) descriptors into the rows from ``start``."""
        end = start + len(descriptors)
        if end == start:
            return
        full = torch.from_numpy(np.array(descriptors, dtype=np.float32)).to(self._device)
        self._full[start:end], self._half[start:end] = full, full.half()
        rounding = torch.linalg.vector_norm(full - self._half[start:end].float(), dim=1).max()
        self._rounding = max(self._rounding, float(rounding))

    def _search(self, queries: Descriptors, k: int, count: int, packed: bytes | None) -> tuple[Scores, Rows]:
        """The best ``k`` rows of each query, (q, k), among all rows or the ``count`` rows that a packed mask allows."""
        half, rows_of, mask = self._half, None, None
        if packed is not None and count < GATHERED_SHARE * len(self):
            half, rows_of = self._gathered(packed)
        elif packed is not None:
            mask = self._unpacked(packed)
        candidates = k + EXTRA if mask is None else int((k + EXTRA) * len(self) / count) + 1
        scores, rows = np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64)
        margin, undecided = self._margin(queries), np.arange(len(queries))
        while len(undecided) and candidates <= MAX_K:
            candidates = min(candidates, len(half))
            on_device = torch.from_numpy(queries[undecided]).to(self._device)
            approximate, found = top_k(on_device.half(), half, candidates)
            found = found if rows_of is None else rows_of[found]
            exact = self._exact(on_device, found)
            if mask is not None:
                exact = exact.masked_fill(~mask[found], -torch.inf)
            # One transfer instead of three, because each waits for the GPU. float64 holds scores and rows exactly.
            both = torch.cat([exact.double(), found.double(), approximate[:, -1:].double()], dim=1).cpu().numpy()
            exact_scores, exact_rows, last = both[:, :candidates], both[:, candidates:-1], both[:, -1]
            best = np.argsort(-exact_scores, axis=1, kind="stable")[:, :k]  # top_k orders equal scores by row
            scores[undecided] = np.take_along_axis(exact_scores, best, axis=1)
            rows[undecided] = np.take_along_axis(exact_rows, best, axis=1)
            if candidates == len(half):
                return scores, rows
            undecided = undecided[last + margin[undecided] >= scores[undecided, -1]]
            candidates *= 4
        if len(undecided):
            scores[undecided], rows[undecided] = self._dense(queries[undecided], k, packed)
        return scores, rows

    def _margin(self, queries: Descriptors) -> NDArray[np.float64]:
        """(q,) upper bounds of the error of an approximate score of each query, with the rounding of the sums."""
        lengths, dim = np.linalg.norm(queries, axis=1), queries.shape[1]
        # Half a unit in the last place of float16, for normal and for subnormal numbers.
        rounding = lengths * 2.0**-11 + dim**0.5 * 2.0**-25
        sums = dim * 2.0**-23  # twice the unit roundoff of float32 for each of the products
        margin: NDArray[np.float64] = self._rounding * lengths + rounding * (1 + self._rounding) + sums * lengths
        return margin

    def _exact(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Float32 scores (q, c) of the candidate rows (q, c) of each query."""
        size = max(1, GATHERED_BYTES // (rows.shape[1] * queries.shape[1] * 4))
        parts = [slice(start, start + size) for start in range(0, len(queries), size)]
        return torch.cat([torch.matmul(self._full[rows[part]], queries[part, :, None])[:, :, 0] for part in parts])

    def _dense(self, queries: Descriptors, k: int, packed: bytes | None) -> tuple[Scores, Rows]:
        """The best ``k`` rows of each query by its float32 score with every row; equal scores are ordered by row."""
        outside = None if packed is None else ~self._unpacked(packed)
        scores, rows = np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64)
        size = max(1, GATHERED_BYTES // (4 * len(self)))
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            products = torch.from_numpy(queries[part]).to(self._device) @ self._full.T
            if outside is not None:
                products[:, outside] = -torch.inf
            best = products.sort(dim=1, descending=True, stable=True)
            scores[part], rows[part] = best.values[:, :k].cpu().numpy(), best.indices[:, :k].cpu().numpy()
        return scores, rows

    def _gather(self, packed: bytes) -> tuple[Tensor, Tensor]:
        """Float16 descriptors (m, dim) of the rows that a packed mask allows, and these rows (m,)."""
        rows = self._unpacked(packed).nonzero().flatten()
        return self._half[rows], rows

    def _unpacked(self, packed: bytes) -> Tensor:
        mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=len(self)).astype(np.bool_)
        return torch.from_numpy(mask).to(self._device)
