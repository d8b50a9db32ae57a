"""Brute-force search on the CPU with FAISS: the inner product of the query with every descriptor."""

from pathlib import Path
from typing import Self

import faiss
import numpy as np

from glam.index.ann.base import DescriptorSource
from glam.index.ann.file import read_file, write_file
from glam.index.ann.rescore import best_first, bitmap
from glam.index.types import Descriptors, Mask, Rows, Scores

BLOCK = 65_536
"""Descriptors copied at a time (arbitrary): 128 MB at 512 dimensions."""


class Exact:
    """A `glam.index.ann.Structure` that holds the descriptors in memory and misses no row.

    Args:
        dim: length of a descriptor.
    """

    kind = "exact"

    def __init__(self, dim: int) -> None:
        self._flat = faiss.IndexFlatIP(dim)

    @classmethod
    def build(cls, descriptors: DescriptorSource) -> Self:
        """Builds a structure of all descriptors (n, dim)."""
        return cls._of(descriptors, len(descriptors))

    @classmethod
    def read(cls, path: Path, descriptors: DescriptorSource) -> Self:
        """Reads a structure that `write` has written.

        Args:
            path: path of the file, which holds only the number of rows.
            descriptors: source of the descriptors; it may have more rows than the structure.

        Raises:
            GlamError: the file is damaged.
        """
        return cls._of(descriptors, int(read_file(path).facts["rows"]))

    @classmethod
    def _of(cls, descriptors: DescriptorSource, count: int) -> Self:
        structure = cls(descriptors.dim)
        for start in range(0, count, BLOCK):
            structure.add(descriptors[start : min(start + BLOCK, count)])
        return structure

    def __len__(self) -> int:
        return int(self._flat.ntotal)

    @property
    def memory_bytes(self) -> int:
        """Size of the descriptors in memory, in bytes."""
        return len(self) * self._flat.d * 4

    def add(self, descriptors: Descriptors) -> None:
        """See `glam.index.ann.Structure.add`."""
        self._flat.add(np.ascontiguousarray(descriptors, dtype=np.float32))

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        params = None if allowed is None else faiss.SearchParameters(sel=bitmap(allowed))  # type: ignore[call-arg]
        scores, rows = self._flat.search(queries, k, params=params)
        scores[rows < 0] = -np.inf
        return scores, rows

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """See `glam.index.ann.Structure.range_search`."""
        query = np.ascontiguousarray(query, dtype=np.float32).reshape(1, -1)
        # FAISS returns scores above the radius, without the radius itself.
        below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
        params = None if allowed is None else faiss.SearchParameters(sel=bitmap(allowed))  # type: ignore[call-arg]
        _, scores, rows = self._flat.range_search(query, below, params=params)
        return best_first(scores, rows)

    def write(self, path: Path) -> None:
        """Writes the number of rows; the descriptors themselves are in the segments of the index."""
        write_file(path, faiss.IndexFlatIP(self._flat.d), {"kind": self.kind, "rows": len(self)})
