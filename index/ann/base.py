"""Interfaces of search structures and of the descriptors that they search."""

from pathlib import Path
from typing import Protocol

from glam.index.ann.inner_products import inner_products
from glam.index.types import Descriptors, Mask, Rows, Scores


class DescriptorSource(Protocol):
    """The descriptors of an index as a matrix (n, dim) float32, usually memory-mapped.

    A structure reads them when it is built, and to compute exact scores of its candidates. Every descriptor that is
    added with `Structure.add` must also be in the source, in the same row.
    """

    dim: int
    """Length of a descriptor."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        """The descriptors in these rows, (m, dim) float32, in the order of ``rows``."""

    def inner_products(self, query: Descriptors, rows: Rows) -> Scores:
        """Inner products of a query with rows.

        Args:
            query: (dim,) float32.
            rows: (m,) int64.

        Returns:
            (m,) float32.
        """
        return inner_products(query, self[rows])


class Structure(Protocol):
    """Finds the nearest of many descriptors. Any number of threads may search at once, but not during `add`."""

    @property
    def kind(self) -> str:
        """Kind of the structure: one of `glam.index.ann.KINDS`, or ``milvus``."""

    @property
    def memory_bytes(self) -> int:
        """Memory in use, in bytes, without memory-mapped descriptors."""

    def __len__(self) -> int:
        """Number of rows. Row i is the i-th descriptor added."""

    def add(self, descriptors: Descriptors) -> None:
        """Adds descriptors.

        Args:
            descriptors: (n, dim) float32 of unit length, for the n rows from ``len(self)``.
        """

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """Finds the nearest rows of each query.

        Args:
            queries: (q, dim) float32 of unit length.
            k: results per query, at least 1.
            allowed: (len(self),) mask of the rows that may be results; None for all rows.

        Returns:
            Scores (q, k), best first, and rows (q, k); -inf and -1 where a query has fewer results. Scores are exact,
            but an approximate structure may miss rows.
        """

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """Finds all rows that score at least a threshold.

        Args:
            query: (dim,) or (1, dim) float32 of unit length.
            threshold: lowest cosine similarity, in [-1, 1].
            allowed: (len(self),) mask of the rows that may be results; None for all rows.

        Returns:
            Scores (m,), best first, and rows (m,). An approximate structure may miss rows.
        """

    def write(self, path: Path) -> None:
        """Writes the structure to a file, which `glam.index.ann.read_structure` reads.

        Args:
            path: path of the file.
        """
