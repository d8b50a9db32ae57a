"""Exact ranks of a few images among very many, by counting.

A metric needs the ranks of some dozens of judged images, the targets; sorting a million scores for them is wasted work.
Instead, every image above a target in the ranking (`glam.eval.tie_break`) is counted, in one pass over the rows:

    block of rows --`CpuCounter` or `GpuCounter`--> rows surely above each target --> counts
                                               `--> rows too near to say --> exact scores --> counts

The counts are those of the exact scores, whatever the block size, the device, and the number of threads.
"""

from collections.abc import Iterator, Sequence

import torch

from glam.eval.ranks.cpu import Block, Counts, CpuCounter
from glam.eval.ranks.gpu import GpuCounter
from glam.eval.tie_break import Descriptors, Keys
from glam.progress import Progress, no_progress

BLOCK_BYTES = 32 << 20
"""Of a block of rows, or of its scores, in single precision. Each thread holds one."""

QUERY_BLOCK = 256
"""Queries that share a pass over the rows."""


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
    """How many images are above each target in the ranking of its query.

    Args:
        queries: (q, dim).
        targets: q arrays of tie-break keys, see `tie_break_keys`.
        parts: the database, then the distractors, each (n, dim); rows are numbered through all parts.
        device: device that counts. On one H100 with 16 CPU cores, the GPU takes 0.3 to 0.7 of the CPU's time
            (benchmarks/results/rank_counts.json).
        progress: called with rows done and total rows.
        block_bytes: bytes of the rows, or of the scores, in a block.
        query_block: queries per pass over the rows.

    Returns:
        q arrays in the order of ``targets``.

    Raises:
        GlamError: a descriptor is infinite or too large for single precision.
    """
    rows = sum(len(part) for part in parts)
    passes = [slice(start, start + query_block) for start in range(0, len(queries), query_block)]
    total, done = len(passes) * rows, 0
    above: list[Counts] = []
    for queried in passes:
        pair = queries[queried], targets[queried]
        counter = CpuCounter(*pair) if torch.device(device).type == "cpu" else GpuCounter(*pair, torch.device(device))
        for counted in counter.count(_blocks(parts, len(pair[0]), block_bytes)):
            done += counted
            progress(done, total)
        above += counter.above()
    return above


def _blocks(parts: Sequence[Descriptors], queries: int, block_bytes: int) -> Iterator[Block]:
    """The parts in blocks."""
    first_row = 0
    for part in parts:
        size = max(1, block_bytes // (4 * max(part.shape[1], queries)))
        for start in range(0, len(part), size):
            descriptors = part[start : start + size]
            yield descriptors, first_row
            first_row += len(descriptors)
