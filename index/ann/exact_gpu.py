"""Exact search on a GPU: candidates by float16 inner products, then exact scores, and a proof that none was missed.

    queries --kernels.top_k--> candidates and approximate scores --inner products in float32--> the best k
            <--more candidates, until no other row can score as high as the k-th--

A float16 copy halves the bytes that a search reads, which is all that its time is made of. The copy of a descriptor x
differs from x by r = |x - float16(x)|; so an approximate score is off by at most r plus the same of the query, and
rows that are no candidates score at most the last candidate's approximate score plus that. Where this is not below the
k-th exact score, the search takes more candidates.
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
"""Descriptors copied to the GPU at a time."""

EXTRA = 22
"""Candidates beyond the results asked for: 32 for ten (benchmarks/search_gpu.py)."""

GATHERED_BYTES = 256 << 20
"""Most bytes of candidates whose exact scores are computed together."""

GATHERED_SHARE = 0.5
"""Share of the rows that a filter leaves, below which they are copied together; above, more candidates are taken."""

FILTERS_CACHED = 2
"""Filters whose rows are kept on the GPU."""


class ExactGpu:
    """Brute force on one GPU, by PyTorch and Triton. Scores are exact, and no row is missed.

    Args:
        dim: length of a descriptor.
        device: a CUDA device; on the CPU, for tests, the kernels' plain forms run.
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
        """A structure of all of ``descriptors``, (n, dim)."""
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
        """On the GPU: a float32 and a float16 copy of each descriptor."""
        return self._full.nbytes + self._half.nbytes

    def add(self, descriptors: Descriptors) -> None:
        """Adds (n, dim) descriptors."""
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
        asked = torch.from_numpy(np.array(query, dtype=np.float32).reshape(-1)).to(self._device)
        with torch.inference_mode():
            near = self._full @ asked
            inside = near >= threshold
            if allowed is not None:
                inside &= torch.from_numpy(np.array(allowed)).to(self._device)
            rows = inside.nonzero().flatten()
            scores = near[rows]
        return best_first(scores.cpu().numpy(), rows.cpu().numpy())

    def write(self, path: Path) -> None:
        """Writes how many descriptors there are, as `Exact.write`."""
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
        """The best ``k`` rows of each query, (q, k), among ``count`` rows that a packed mask allows, or among all."""
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
            asked = torch.from_numpy(queries[undecided]).to(self._device)
            approximate, found = top_k(asked.half(), half, candidates)
            found = found if rows_of is None else rows_of[found]
            exact = self._exact(asked, found)
            if mask is not None:
                exact = exact.masked_fill(~mask[found], -torch.inf)
            # One transfer instead of three: each of them waits for the GPU. float64 holds scores and rows exactly.
            both = torch.cat([exact.double(), found.double(), approximate[:, -1:].double()], dim=1).cpu().numpy()
            exact_scores, exact_rows, last = both[:, :candidates], both[:, candidates:-1], both[:, -1]
            best = np.argsort(-exact_scores, axis=1, kind="stable")[:, :k]  # equal rows come from top_k by row
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
        """(q,) the most that an approximate score of each query is off by, rounding of the sums included."""
        lengths, dim = np.linalg.norm(queries, axis=1), queries.shape[1]
        rounding = lengths * 2.0**-11 + dim**0.5 * 2.0**-25  # half a unit in the last place; of subnormal numbers
        sums = dim * 2.0**-23  # twice the unit roundoff for each of the products
        margin: NDArray[np.float64] = self._rounding * lengths + rounding * (1 + self._rounding) + sums * lengths
        return margin

    def _exact(self, queries: Tensor, rows: Tensor) -> Tensor:
        """(q, c) float32 scores of each query's candidate rows."""
        size = max(1, GATHERED_BYTES // (rows.shape[1] * queries.shape[1] * 4))
        parts = [slice(start, start + size) for start in range(0, len(queries), size)]
        return torch.cat([torch.matmul(self._full[rows[part]], queries[part, :, None])[:, :, 0] for part in parts])

    def _dense(self, queries: Descriptors, k: int, packed: bytes | None) -> tuple[Scores, Rows]:
        """The best ``k`` of each query by the float32 score with every row; equal scores by row."""
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
        """The float16 copies of the rows that a packed mask allows, (m, dim), and these rows, (m,)."""
        rows = self._unpacked(packed).nonzero().flatten()
        return self._half[rows], rows

    def _unpacked(self, packed: bytes) -> Tensor:
        mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=len(self)).astype(np.bool_)
        return torch.from_numpy(mask).to(self._device)
