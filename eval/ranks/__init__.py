"""Exact ranks of a few images in a large database, by counting instead of sorting.

A metric needs the ranks of some dozens of judged images, the targets, so sorting a million scores is wasted work.
Instead, the images above each target in the ranking (`glam.eval.tie_break`) are counted in one pass over the rows:

    block of rows --`CpuCounter` or `GpuCounter`--> rows certainly above a target --> counts
                                               `--> rows within the rounding error --> exact scores --> counts

The counts are those of the exact scores for any block size, device, and number of threads.
"""

from collections.abc import Iterator, Sequence

import torch

from glam.eval.ranks.counter import Block, Counts
from glam.eval.ranks.cpu import CpuCounter
from glam.eval.ranks.gpu import GpuCounter
from glam.eval.tie_break import Descriptors, Keys
from glam.progress import Progress, no_progress

BLOCK_BYTES = 32 << 20
"""Size of a block of rows, or of its scores, in single precision; each thread holds one block (arbitrary)."""

QUERY_BLOCK = 256
"""Queries that share a pass over the rows (arbitrary)."""


def count_above(
    queries: Descriptors,
    targets: Sequence[Keys],
    parts: Sequence[Descriptors],
    *,
    device: str | torch.device = "cpu",
    progress: Progress = no_progress,
    block_bytes: int = BLOCK_BYTES,
    query_block: int = QUERY_BLOCK,
) -> list[Counts]:
    """Counts the images above each target in the ranking of its query.

    Args:
        queries: (q, dim) descriptors of the queries.
        targets: for each query, the (t,) tie-break keys of its targets, see `glam.eval.tie_break.tie_break_keys`.
        parts: (n, dim) descriptors of the database, then of each set of distractors; rows continue from part to part.
        device: device that counts. On one H100 with 16 CPU cores, the GPU takes 0.3 to 0.7 of the CPU's time
            (benchmarks/results/rank_counts.json).
        progress: called with rows done and total rows.
        block_bytes: maximum size of the rows of a block, or of their scores, in bytes.
        query_block: maximum number of queries per pass over the rows.

    Returns:
        For each query, the (t,) int64 number of images above each target.

    Raises:
        GlamError: a descriptor is infinite or too large for single precision.
    """
    rows = sum(len(part) for part in parts)
    passes = [slice(start, start + query_block) for start in range(0, len(queries), query_block)]
    total, done = len(passes) * rows, 0
    above: list[Counts] = []
    where = torch.device(device)
    for queried in passes:
        pair = queries[queried], targets[queried]
        counter = CpuCounter(*pair) if where.type == "cpu" else GpuCounter(*pair, where)
        for counted in counter.count(_blocks(parts, len(pair[0]), block_bytes)):
            done += counted
            progress(done, total)
        above += counter.above()
    return above


def _blocks(parts: Sequence[Descriptors], queries: int, block_bytes: int) -> Iterator[Block]:
    """Yields the parts in blocks, each with the row of its first descriptor."""
    first_row = 0
    for part in parts:
        size = max(1, block_bytes // (4 * max(part.shape[1], queries)))
        for start in range(0, len(part), size):
            descriptors = part[start : start + size]
            yield descriptors, first_row
            first_row += len(descriptors)
