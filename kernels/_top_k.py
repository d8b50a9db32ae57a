"""Triton kernels of exact top-k for many queries: scores stay in registers, what can be among the best is written.

Candidates travel as 64-bit keys, the score in a form that compares as an integer above the row counted from the end:
a greater key is a better place, no two rows share one, and the order in which they were appended does not matter.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._dot import add_product, precision

LEAST_INT = tl.constexpr(-(2**31))
LEAST_KEY = tl.constexpr(-(2**63))
LAST_ROW = tl.constexpr(2**31 - 1)


@dataclass(frozen=True)
class Tile:
    """What a program multiplies at a time.

    Attributes:
        queries, rows: of a tile.
        width: bytes of each that are multiplied in one step.
        warps, stages: of a program.
        registers: most that a thread may have; 128 let two programs of 8 warps run on a multiprocessor at a time.
    """

    queries: int = 128
    rows: int = 128
    width: int = 128
    warps: int = 8
    stages: int = 3
    registers: int | None = 128


WIDE = Tile()
NARROW = Tile(queries=64, warps=4, registers=168)
"""For 64 queries and fewer, where reading the rows takes longest."""

SAMPLED = 16
"""One tile of rows in so many gives the many queries' bound."""

MOST_BLOCKS = 8192
"""Tiles in the sample: one program holds a query's maxima of all."""

ROOM = 4
"""Places for a query's candidates, as a multiple of how many rows in random order would give."""

MOST_PLACES = 1 << 26
"""Candidates of all queries that share a pass, 8 bytes each."""


@triton.jit
def tile_scores(
    queries, rows, query, row, query_stride, row_stride, width,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(BLOCK_Q, BLOCK_N) single-precision scores, never -0, of the queries and rows of these numbers."""
    column = tl.arange(0, BLOCK_D)
    left = queries + query.to(tl.int64)[:, None] * query_stride + column[None, :]
    right = rows + row.to(tl.int64)[:, None] * row_stride + column[None, :]
    WHOLE: tl.constexpr = rows.dtype.element_ty == tl.int8
    total = tl.zeros([BLOCK_Q, BLOCK_N], tl.int32 if WHOLE else tl.float32)
    for start in range(0, width, BLOCK_D):
        if EVEN:
            a = tl.load(left)
            b = tl.load(right)
        else:
            inside = (start + column < width)[None, :]
            a = tl.load(left, mask=inside, other=0)
            b = tl.load(right, mask=inside, other=0)
        if WHOLE:
            total = tl.dot(a, tl.trans(b), total, out_dtype=tl.int32)
        else:
            total = add_product(total, a, tl.trans(b), PRECISION)
        left += BLOCK_D
        right += BLOCK_D
    return total.to(tl.float32) + 0.0


@triton.jit
def _flipped(bits):
    """The bits of single-precision numbers as integers that compare alike; undoes itself."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def keys_of(score, row):
    order = _flipped(score.to(tl.int32, bitcast=True)).to(tl.int64)
    return (order << 32) | (row ^ LAST_ROW).to(tl.int64)  # rows counted from the end


@triton.jit
def _sample(
    queries, rows, maxima,
    query_stride, row_stride, q, n, width, tiles, sampled,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(q, sampled) best scores of tiles of rows spread evenly."""
    groups = tl.cdiv(q, BLOCK_Q)
    place = tl.program_id(0) // groups
    tile = (place.to(tl.int64) * tiles // sampled).to(tl.int32)
    query = tl.program_id(0) % groups * BLOCK_Q + tl.arange(0, BLOCK_Q)
    row = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # What is beyond the end repeats the last row, which changes no maximum.
    score = tile_scores(
        queries, rows, tl.minimum(query, q - 1), tl.minimum(row, n - 1), query_stride, row_stride, width,
        BLOCK_Q, BLOCK_N, BLOCK_D, EVEN, PRECISION,
    )  # fmt: skip
    tl.store(maxima + query.to(tl.int64) * sampled + place, tl.max(score, 1), mask=query < q)


@triton.jit
def _bound(maxima, bounds, chosen, blocks, k, BLOCK: tl.constexpr, CHOOSE: tl.constexpr):
    """The k-th largest of a query's maxima; with CHOOSE also the numbers of k blocks that hold the k best rows.

    Of blocks with the same maximum the first are chosen: their rows have the lower numbers.
    """
    query = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, BLOCK)
    there = block < blocks
    best = tl.load(maxima + query * blocks + block, mask=there, other=float("-inf"))
    order = tl.where(there, _flipped(best.to(tl.int32, bitcast=True)), LEAST_INT)
    bound = tl.where(tl.sum((order >= 0).to(tl.int32), 0) >= k, 0, LEAST_INT)
    for step in range(31):
        raised = bound + (1 << (30 - step))
        bound = tl.where(tl.sum((order >= raised).to(tl.int32), 0) >= k, raised, bound)
    tl.store(bounds + query, _flipped(bound).to(tl.float32, bitcast=True))
    if CHOOSE:
        above = order > bound
        equal = (order == bound).to(tl.int32)
        taken = above | ((equal > 0) & (tl.cumsum(equal, 0) <= k - tl.sum(above.to(tl.int32), 0)))
        tl.store(chosen + query * k + tl.cumsum(taken.to(tl.int32), 0) - 1, block, mask=taken)


@triton.jit
def _halves(x, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    return tl.split(tl.permute(tl.reshape(x, [ROWS, 2, COLUMNS // 2]), [0, 2, 1]))


@triton.jit
def _write_hits(score, bound, row, n, at, first, places):
    """Writes the keys of scores (queries, rows) that reach the bound to ``at`` (queries,) and on, from place ``first``.

    Returns:
        (queries,) the next free places.
    """
    hit = (score >= bound[:, None]) & (row < n)[None, :]
    hits = hit.to(tl.int32)
    place = first[:, None] + tl.cumsum(hits, 1) - 1
    tl.store(at[:, None] + place, keys_of(score, row[None, :]), mask=hit & (place < places))
    return first + tl.sum(hits, 1)


@triton.jit
def _append(
    queries, rows, bounds, counts, keys,
    query_stride, row_stride, q, n, width, places,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Counts each query's rows that score its bound or more, and writes the keys of those that find a place."""
    groups = tl.cdiv(q, BLOCK_Q)
    query = tl.program_id(0) % groups * BLOCK_Q + tl.arange(0, BLOCK_Q)
    start = tl.program_id(0) // groups * BLOCK_N
    row = start + tl.arange(0, BLOCK_N)
    score = tile_scores(
        queries, rows, tl.minimum(query, q - 1), tl.minimum(row, n - 1), query_stride, row_stride, width,
        BLOCK_Q, BLOCK_N, BLOCK_D, EVEN, PRECISION,
    )  # fmt: skip
    bound = tl.load(bounds + query, mask=query < q, other=float("nan"))  # which no score reaches
    count = tl.sum(((score >= bound[:, None]) & (row < n)[None, :]).to(tl.int32), 1)
    first = tl.atomic_add(counts + query, count, mask=count > 0, sem="relaxed")
    at = keys + query.to(tl.int64) * places
    # A quarter at a time: the 64-bit keys and addresses of all would not fit in the registers.
    QUARTER: tl.constexpr = BLOCK_N // 4
    row = start + tl.arange(0, QUARTER)
    left, right = _halves(score, BLOCK_Q, BLOCK_N)
    one, two = _halves(left, BLOCK_Q, BLOCK_N // 2)
    three, four = _halves(right, BLOCK_Q, BLOCK_N // 2)
    first = _write_hits(one, bound, row, n, at, first, places)
    first = _write_hits(two, bound, row + QUARTER, n, at, first, places)
    first = _write_hits(three, bound, row + 2 * QUARTER, n, at, first, places)
    _write_hits(four, bound, row + 3 * QUARTER, n, at, first, places)


@triton.jit
def _best(
    keys, counts, lost, scores, best_rows,
    k, places,
    BLOCK_K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The k best of a query's candidates, in order; NaN and -1 where there are fewer, or more than places."""
    query = tl.program_id(0).to(tl.int64)
    count = tl.load(counts + query)
    best = tl.full([BLOCK_K], LEAST_KEY, tl.int64)
    if (count < k) | (count > places):
        tl.atomic_add(lost, 1, sem="relaxed")
        count = 0
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        some = tl.load(keys + query * places + at, mask=at < count, other=LEAST_KEY)
        some = tl.topk(some, BLOCK_K)
        best = tl.topk(tl.reshape(tl.join(best, some), [2 * BLOCK_K]), BLOCK_K)
    place = tl.arange(0, BLOCK_K)
    score = _flipped((best >> 32).to(tl.int32)).to(tl.float32, bitcast=True)
    row = tl.where(best == LEAST_KEY, -1, (best & LAST_ROW) ^ LAST_ROW)
    tl.store(scores + query * k + place, score, mask=place < k)
    tl.store(best_rows + query * k + place, row, mask=place < k)


def suits(q: int, n: int, k: int) -> bool:
    """Whether there are tiles enough to bound the k-th best of ``n`` scores by the maxima of a sample."""
    return n >= 2 * k * tile_for(q).rows


def tile_for(q: int) -> Tile:
    """The tile for so many queries."""
    return NARROW if q <= NARROW.queries else WIDE


def forward(
    queries: Tensor, rows: Tensor, k: int, *, tile: Tile | None = None, sampled: int = SAMPLED, room: float = ROOM
) -> tuple[Tensor, Tensor, Tensor]:
    """The k best rows of each query, but for those that are lost.

    A query is lost if it has more candidates than places, or fewer than k, which is so when its scores are NaN.

    Args:
        queries: (q, d), each contiguous.
        rows: (n, d) of the same type, each contiguous; as many as `suits` takes.
        k: how many.
        tile: by default that of `tile_for`.
        sampled: one tile of rows in so many gives the bound.
        room: places for candidates, as a multiple of how many rows in random order would give.

    Returns:
        (q, k) scores and (q, k) rows, NaN and -1 for a query that is lost, and (1,) how many are.
    """
    (q, width), n = queries.shape, len(rows)
    tile = tile or tile_for(q)
    tiles = triton.cdiv(n, tile.rows)
    sample = min(tiles, max(triton.cdiv(tiles, sampled), 2 * k), MOST_BLOCKS)
    expected = tiles * -math.log1p(-k / (sample + 1))
    places = triton.next_power_of_2(max(k, int(room * expected)))
    group = min(q, max(tile.queries, MOST_PLACES // places))
    maxima = rows.new_empty((group, sample), dtype=torch.float32)
    bounds = rows.new_empty(group, dtype=torch.float32)
    counts = rows.new_zeros(q + 1, dtype=torch.int32)
    keys = rows.new_empty((group, places), dtype=torch.int64)
    scores, best = rows.new_empty((q, k), dtype=torch.float32), rows.new_empty((q, k), dtype=torch.int64)
    options = tile_options(tile, rows)
    for start in range(0, q, group):
        part = queries[start : start + group]
        count = len(part)
        shape = queries.stride(0), rows.stride(0), count, n, width
        groups = triton.cdiv(count, tile.queries)
        _sample[(groups * sample,)](part, rows, maxima, *shape, tiles, sample, **options)
        find_bounds(maxima[:count], bounds, None, k)
        _append[(groups * tiles,)](part, rows, bounds, counts[start:], keys, *shape, places, **options)
        find_best(keys[:count], counts[start:], counts[q:], scores[start:], best[start:], k)
    return scores, best, counts[q:]


def tile_options(tile: Tile, rows: Tensor) -> dict[str, Any]:
    """What a kernel needs to know of its tiles when it is compiled."""
    columns = min(tile.width // rows.element_size(), max(32, triton.next_power_of_2(rows.shape[1])))
    return {
        "BLOCK_Q": tile.queries,
        "BLOCK_N": tile.rows,
        "BLOCK_D": columns,
        "EVEN": rows.shape[1] % columns == 0,
        "PRECISION": precision(rows.dtype),
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "maxnreg": tile.registers,
    }


def find_bounds(maxima: Tensor, bounds: Tensor, chosen: Tensor | None, k: int) -> None:
    q, blocks = maxima.shape
    block = triton.next_power_of_2(blocks)
    _bound[(q,)](
        maxima, bounds, chosen, blocks, k,
        BLOCK=block, CHOOSE=chosen is not None, num_warps=min(16, max(4, block // 256)),
    )  # fmt: skip


def find_best(keys: Tensor, counts: Tensor, lost: Tensor, scores: Tensor, best: Tensor, k: int) -> None:
    q, places = keys.shape
    block = max(16, triton.next_power_of_2(k))
    _best[(q,)](keys, counts, lost, scores, best, k, places, BLOCK_K=block, BLOCK=max(512, block), num_warps=4)
