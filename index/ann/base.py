"""What a search structure is, and where it finds exact descriptors."""

from pathlib import Path
from typing import Protocol

from glam.index.ann.inner_products import inner_products
from glam.index.types import Descriptors, Mask, Rows, Scores


class DescriptorSource(Protocol):
    """The descriptors of an index by row: exact, and usually memory-mapped.

    A structure reads them when it is built and to score what it finds; it never writes them. Every descriptor
    that a structure is given by `Structure.add` has to be here too, in the same row.
    """

    dim: int
    """Length of a descriptor."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        """The descriptors in these rows, (n, dim), in their order."""

    def inner_products(self, query: Descriptors, rows: Rows) -> Scores:
        """Inner products of a query (dim,) with the descriptors in these rows: (n,)."""
        return inner_products(query, self[rows])


class Structure(Protocol):
    """Finds the nearest of many descriptors. Any number of threads may search, but not while one adds."""

    @property
    def kind(self) -> str:
        """Which structure it is, one of `glam.index.ann.KINDS`."""

    @property
    def memory_bytes(self) -> int:
        """Memory it holds, without the descriptors it reads through the memory map."""

    def __len__(self) -> int:
        """Rows held; row r is the r-th descriptor ever added."""

    def add(self, descriptors: Descriptors) -> None:
        """Adds (n, dim) descriptors; their rows go on from ``len(self)``."""

    def search(self, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """The nearest rows of each query.

        Args:
            queries: (q, dim), unit length.
            k: how many, at least 1.
            allowed: (len(self),), which rows may be found; all by default.

        Returns:
            Scores (q, k), best first, and rows (q, k). Scores are exact; whether a row is missed depends on the
            structure.
        """

    def range_search(self, query: Descriptors, threshold: float, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """All rows whose cosine with one query, (dim,) or (1, dim), is at least ``threshold``; best first."""

    def write(self, path: Path) -> None:
        """Writes it to one file, which `read_structure` reads back."""
