"""Exact rank counts, whatever device compares the scores."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.ranks.score_table import first_codes
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys

Counts = NDArray[np.int64]

Block = tuple[Descriptors, int]
"""(n, dim) descriptors, and the row of the first one."""

MAX_WORKERS = 8
"""Maximum number of threads (arbitrary)."""

CHUNK = 1024
"""Rows that are converted and compared at a time, so that they stay in the cache (arbitrary)."""


class RankCounter(ABC):
    """Counts the images above the targets of all queries of a pass.

    Each score has a code, which says how many targets of its query it is above (`first_codes`). A subclass finds the
    codes of the scores that are certain; the others are compared by their tie-break keys.

    Args:
        queries: (q, dim) descriptors of the queries.
        targets: for each query, the (t,) tie-break keys of its targets, see `glam.eval.tie_break.tie_break_keys`.
    """

    def __init__(self, queries: Descriptors, targets: Sequence[Keys]) -> None:
        self.has_nan = np.isnan(queries).any(axis=1)
        self.queries = queries.astype(np.float64)
        self.norms = np.where(self.has_nan, 0.0, row_norms(torch.from_numpy(self.queries)))
        self.orders = [np.argsort(keys) for keys in targets]
        self.keys = [keys[order] for keys, order in zip(targets, self.orders, strict=True)]
        self.first = first_codes(targets)
        self.counts = np.zeros(self.first[-1], dtype=np.int64)
        self.lock = Lock()

    def count(self, blocks: Iterable[Block]) -> Iterator[int]:
        """Counts blocks in threads and yields the number of rows of each."""
        with _workers() as pool:
            yield from pool.map(self.add, blocks)

    def add(self, block: Block) -> int:
        """Counts a block and returns its number of rows. This method is thread-safe."""
        descriptors, first_row = block
        counts, query, row = self._count_sure(descriptors)
        counts = counts + self._count_exactly(query, row, descriptors, first_row)
        with self.lock:
            self.counts += counts
        return len(descriptors)

    def above(self) -> list[Counts]:
        """For each query, the (t,) number of images above each target."""
        results = []
        for counts, order in zip(np.split(self.counts, self.first[:-1])[1:], self.orders, strict=True):
            results.append(np.empty(len(order), dtype=np.int64))
            results[-1][order] = counts.sum() - np.cumsum(counts)[:-1]
        return results

    @abstractmethod
    def _count_sure(self, descriptors: Descriptors) -> tuple[Counts, NDArray[np.int64], NDArray[np.int64]]:
        """Counts the scores of (n, dim) descriptors that are certain.

        Returns:
            The counts by code, and the (p,) queries, ascending, and (p,) rows of the block whose scores are uncertain.
        """

    def _count_exactly(
        self, queries: NDArray[np.int64], block_rows: NDArray[np.int64], descriptors: Descriptors, first_row: int
    ) -> Counts:
        """Counts p pairs of a query and a row of the block by their exact scores.

        Args:
            queries: (p,) ascending queries.
            block_rows: (p,) rows, counted from the start of the block.
            descriptors: (n, dim) descriptors of the block.
            first_row: row of the first descriptor.
        """
        keys = np.empty(len(queries), dtype=np.complex128)
        for start in range(0, len(keys), CHUNK):
            chunk = slice(start, start + CHUNK)
            rows = block_rows[chunk]
            keys[chunk] = tie_break_keys(self.queries[queries[chunk]], descriptors[rows], first_row + rows)
        ends = np.searchsorted(queries, np.arange(len(self.keys)), side="right")
        beaten = [
            code + np.searchsorted(targets, query_keys)
            for code, targets, query_keys in zip(self.first[:-1], self.keys, np.split(keys, ends)[:-1], strict=True)
        ]
        return np.bincount(np.concatenate(beaten), minlength=len(self.counts))


def row_norms(descriptors: torch.Tensor) -> NDArray[np.float64]:
    """Computes the lengths of descriptors.

    Args:
        descriptors: (n, dim) descriptors.

    Returns:
        (n,) lengths; NaN for a descriptor that contains NaN.

    Raises:
        GlamError: a descriptor is infinite or too large for single precision.
    """
    norms = torch.linalg.vector_norm(descriptors, dim=1).float()
    check_norms(norms)
    result: NDArray[np.float64] = norms.double().numpy()
    return result


def check_norms(norms: torch.Tensor) -> None:
    """Checks the (n,) lengths of descriptors.

    Raises:
        GlamError: a length is infinite.
    """
    if norms.isinf().any():
        raise GlamError(
            "A descriptor is infinite or too large to compare. Divide each descriptor by its Euclidean norm."
        )


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Opens a pool of threads that each count a block; PyTorch uses one core in each, so that they do not wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, MAX_WORKERS), "count", partial(torch.set_num_threads, 1)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
