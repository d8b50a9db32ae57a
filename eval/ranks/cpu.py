"""Exact rank counts on the CPU: single-precision scores in threads, and lookup tables that tell which are certain."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.ranks.score_table import UNSURE, ScoreTables, first_codes
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys

Counts = NDArray[np.int64]

Block = tuple[Descriptors, int]
"""(n, dim) descriptors, and the row of the first one."""

MAX_WORKERS = 8
"""Maximum number of threads (arbitrary)."""

CHUNK = 1024
"""Rows that are converted and multiplied at a time, so that they stay in the cache (arbitrary)."""

SAMPLE = 32
"""Rows of each block whose scores are compared with exact ones (arbitrary)."""

SAFETY = 4.0
"""The error of a score is assumed to be at most this many times the largest error in the sample, and at least
`LEAST_ERROR` (arbitrary). The bound that needs no sample, ``dim 2^-24 |query| |row|``, is dozens of times as wide, so
that dozens of times as many scores would have to be computed in double precision."""

LEAST_ERROR = 4 * 2**-24
"""Smallest assumed error of a score, as a share of the length of the query times that of the row: four roundings in
single precision."""

SMALLEST_MARGIN = 1e-30
"""Scores closer than this, times the length of the query, are always compared in double precision (arbitrary)."""


class CpuCounter:
    """Counts the images above the targets of all queries of a pass, by the codes of `ScoreTables`.

    If the scores of a block are less exact than assumed, the tables are replaced by some with wider margins. The counts
    are exact with either.

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
        largest = np.array([np.abs(keys.real[np.isfinite(keys.real)]).max(initial=0.0) for keys in targets])
        self.tables = self._make_tables(np.maximum(SMALLEST_MARGIN * np.maximum(self.norms, 1), LEAST_ERROR * largest))

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

    def _count_sure(self, descriptors: Descriptors) -> tuple[Counts, NDArray[np.int64], NDArray[np.int64]]:
        """Counts the scores of (n, dim) descriptors that are certain.

        Returns:
            The counts by code, and the (p,) queries, ascending, and (p,) rows of the block whose scores are uncertain.
        """
        tables, scaled_scores, has_nan = self._score_block(descriptors)
        codes = tables.codes(scaled_scores)
        codes[:, has_nan] = tables.unscored
        codes[self.has_nan] = tables.unscored[self.has_nan]
        counts: Counts = torch.bincount(torch.from_numpy(codes).view(-1), minlength=len(self.counts)).numpy()
        query, row = np.nonzero(codes == UNSURE)
        return counts, query, row

    def _score_block(self, descriptors: Descriptors) -> tuple[ScoreTables, NDArray[np.float32], NDArray[np.int64]]:
        """Tables with sufficient margins for a block, its scores scaled to them, and its rows that contain NaN."""
        tables = self.tables
        while True:
            scaled_scores, norms = self._scaled_scores(descriptors, tables)
            has_nan = np.isnan(norms)
            least = LEAST_ERROR * self.norms * norms.max(where=~has_nan, initial=0.0)
            margins = np.maximum(SAFETY * self._worst_errors(descriptors, scaled_scores, tables), least)
            if (margins <= tables.margins).all():
                return tables, scaled_scores, np.flatnonzero(has_nan)
            self.tables = tables = self._make_tables(2 * np.maximum(margins, tables.margins))

    def _worst_errors(
        self, descriptors: Descriptors, scaled_scores: NDArray[np.float32], tables: ScoreTables
    ) -> NDArray[np.float64]:
        """(q,) largest error of a score in a sample of the block, ignoring scaled scores that overflowed."""
        sample = slice(None, None, max(1, len(descriptors) // SAMPLE))
        exact = torch.from_numpy(self.queries) @ torch.from_numpy(descriptors[sample]).double().T
        errors = np.abs((scaled_scores[:, sample] - tables.offset) / tables.scale - exact.numpy())
        worst: NDArray[np.float64] = np.where(np.isfinite(errors), errors, 0.0).max(axis=1)
        return worst

    def _scaled_scores(
        self, descriptors: Descriptors, tables: ScoreTables
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The (q, n) scores of (n, dim) descriptors, scaled to the tables, and the (n,) lengths of the descriptors."""
        queries = torch.from_numpy(self.queries * tables.scale).float()
        scaled_scores = torch.empty(len(queries), len(descriptors))
        norms = []
        for start in range(0, len(descriptors), CHUNK):
            chunk = torch.from_numpy(descriptors[start : start + CHUNK]).float()
            norms.append(row_norms(chunk))
            torch.mm(queries, chunk.T, out=scaled_scores[:, start : start + CHUNK])
        scaled_scores += torch.from_numpy(tables.offset).float()
        return scaled_scores.numpy(), np.concatenate(norms)

    def _make_tables(self, margins: NDArray[np.float64]) -> ScoreTables:
        return ScoreTables([keys.real for keys in self.keys], margins)

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
