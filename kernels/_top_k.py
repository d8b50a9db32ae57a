"""Triton kernels of exact top-k for many queries: a tile's scores stay in registers, but for those near the best.

    a sample of tiles --> bound: k rows reach it, so every row below is out
    all tiles --> groups of rows of which one reaches it --> their maxima --> a higher bound --> candidates --> k best

A tile's rows fall into four groups, those that the threads of a tensor core's quad hold: the greatest score of a group
and the decision to keep it cost one comparison a score, and a group is written by one thread.

Candidates travel as 64-bit keys, the score in a form that compares as an integer above the row counted from the end:
a greater key is a better place, no two rows share one, and the order in which they were appended does not matter.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._tiles import Tile, scores_of, tile_for, tile_options, tile_products

LEAST_INT = tl.constexpr(-(2**31))
LEAST_KEY = tl.constexpr(-(2**63))
LAST_ROW = tl.constexpr(2**31 - 1)

SAMPLED = 16
"""One tile of rows in so many gives the many queries' bound."""

MOST_BLOCKS = 8192
"""Numbers of which one program finds the k-th largest: maxima of a query's sampled tiles, and of its groups."""

ROOM = 2
"""Places for a query's groups, as a multiple of how many rows in random order would give."""

MOST_BYTES = 1 << 30
"""Written at a time for the groups of all queries that share a pass."""


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
    blocks = tl.cdiv(q, BLOCK_Q)
    place = tl.program_id(0) // blocks
    tile = (place.to(tl.int64) * tiles // sampled).to(tl.int32)
    query = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    row = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # What is beyond the end repeats the last row, which changes no maximum.
    product = tile_products(
        queries, rows, tl.minimum(query, q - 1), tl.minimum(row, n - 1), query_stride, row_stride, width,
        BLOCK_Q, BLOCK_N, BLOCK_D, EVEN, PRECISION,
    )  # fmt: skip
    tl.store(maxima + query.to(tl.int64) * sampled + place, scores_of(tl.max(product, 1)), mask=query < q)


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
def _append(
    queries, rows, bounds, counts, maxima, firsts, products,
    query_stride, row_stride, q, n, width, places,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Counts each query's groups whose best row reaches its bound, and writes those that find a place.

    Group g of a tile holds its rows 8 i + 2 g and 8 i + 2 g + 1. Written are its greatest score, the number of its
    first row, and its products.
    """
    blocks = tl.cdiv(q, BLOCK_Q)
    query = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    start = tl.program_id(0) // blocks * BLOCK_N
    row = start + tl.arange(0, BLOCK_N)
    product = tile_products(
        queries, rows, tl.minimum(query, q - 1), tl.minimum(row, n - 1), query_stride, row_stride, width,
        BLOCK_Q, BLOCK_N, BLOCK_D, EVEN, PRECISION,
    )  # fmt: skip
    GROUP: tl.constexpr = BLOCK_N // 4
    product = tl.permute(tl.reshape(product, [BLOCK_Q, BLOCK_N // 8, 4, 2]), [0, 2, 1, 3])
    product = tl.reshape(product, [BLOCK_Q, 4, GROUP])
    best = scores_of(tl.max(product, 2))
    bound = tl.load(bounds + query, mask=query < q, other=float("nan"))  # which no score reaches
    hit = best >= bound[:, None]
    place = tl.atomic_add((counts + query)[:, None] + tl.zeros([1, 4], tl.int32), 1, mask=hit, sem="relaxed")
    kept = hit & (place < places)
    at = query.to(tl.int64)[:, None] * places + place
    tl.store(maxima + at, best, mask=kept)
    tl.store(firsts + at, start + 2 * tl.arange(0, 4)[None, :] + tl.zeros_like(place), mask=kept)
    tl.store(products + at[:, :, None] * GROUP + tl.arange(0, GROUP)[None, None, :], product, mask=kept[:, :, None])


@triton.jit
def _gather(
    bounds, counts, maxima, firsts, products, found, keys,
    n, places, room,
    GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The keys of a query's rows that reach its bound, and how many; ``room + 1`` if not all its groups had a place."""
    query = tl.program_id(0).to(tl.int64)
    bound = tl.load(bounds + query)
    count = tl.load(counts + query)
    within = tl.arange(0, GROUP)
    offset = within // 2 * 8 + within % 2
    first = tl.where(count > places, room + 1, 0)
    for start in range(0, tl.where(count > places, 0, count), BLOCK):
        place = start + tl.arange(0, BLOCK)
        best = tl.load(maxima + query * places + place, mask=place < count, other=float("-inf"))
        kept = (place < count) & (best >= bound)
        if tl.max(kept.to(tl.int32), 0) > 0:
            row = tl.load(firsts + query * places + place, mask=kept, other=0)[:, None] + offset[None, :]
            at = (query * places + place)[:, None] * GROUP + within[None, :]
            score = scores_of(tl.load(products + at, mask=kept[:, None], other=0))
            hit = kept[:, None] & (row < n) & (score >= bound)
            hits = tl.reshape(hit.to(tl.int32), [BLOCK * GROUP])
            to = first + tl.reshape(tl.cumsum(hits, 0), [BLOCK, GROUP]) - 1
            tl.store(keys + query * room + to, keys_of(score, row), mask=hit & (to < room))
            first += tl.sum(hits, 0)
    tl.store(found + query, first)


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


def forward(
    queries: Tensor,
    rows: Tensor,
    k: int,
    *,
    tile: Tile | None = None,
    sampled: int = SAMPLED,
    room: float = ROOM,
    most_bytes: int = MOST_BYTES,
) -> tuple[Tensor, Tensor, Tensor]:
    """The k best rows of each query, but for those that are lost.

    A query is lost if it has more groups or candidates than places, or fewer than k, as when its scores are NaN.

    Args:
        queries: (q, d), each contiguous.
        rows: (n, d) of the same type, each contiguous; as many as `suits` takes.
        k: how many.
        tile: by default that of `tile_for`.
        sampled: one tile of rows in so many gives the bound.
        room: places for groups, as a multiple of how many rows in random order would give.
        most_bytes: written at a time for the groups of all queries that share a pass.

    Returns:
        (q, k) scores and (q, k) rows, NaN and -1 for a query that is lost, and (1,) how many are.
    """
    q, n = len(queries), len(rows)
    tile = tile or tile_for(q)
    tiles = triton.cdiv(n, tile.rows)
    sample = min(tiles, max(triton.cdiv(tiles, sampled), 2 * k), MOST_BLOCKS)
    expected = tiles * -math.log1p(-k / (sample + 1))
    places = min(triton.next_power_of_2(max(k, int(room * expected))), MOST_BLOCKS)
    together = min(q, max(tile.queries, most_bytes // (places * tile.rows)))  # a group is a quarter of a tile's rows
    scores, best = rows.new_empty((q, k), dtype=torch.float32), rows.new_empty((q, k), dtype=torch.int64)
    lost = rows.new_zeros(1, dtype=torch.int32)
    for start in range(0, q, together):
        part = slice(start, start + together)
        _forward_part(queries[part], rows, k, tile, sample, places, (scores[part], best[part], lost))
    return scores, best, lost


def _forward_part(
    queries: Tensor, rows: Tensor, k: int, tile: Tile, sample: int, places: int, results: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Fills scores, rows and the number of the lost for as many queries as memory holds the groups of."""
    (q, width), n, group = queries.shape, len(rows), tile.rows // 4
    tiles, blocks = triton.cdiv(n, tile.rows), triton.cdiv(q, tile.queries)
    shape = queries.stride(0), rows.stride(0), q, n, width
    options = tile_options(tile, rows)
    bounds = rows.new_empty(q, dtype=torch.float32)
    samples = rows.new_empty((q, sample), dtype=torch.float32)
    _sample[(blocks * sample,)](queries, rows, samples, *shape, tiles, sample, **options)
    find_bounds(samples, bounds, None, k)

    counts = rows.new_zeros(q, dtype=torch.int32)
    maxima = torch.full((q, places), -torch.inf, device=rows.device)
    firsts = rows.new_empty((q, places), dtype=torch.int32)
    sums = torch.int32 if rows.dtype == torch.int8 else torch.float32
    products = rows.new_empty((q, places, group), dtype=sums)
    groups = counts, maxima, firsts, products
    _append[(blocks * tiles,)](queries, rows, bounds, *groups, *shape, places, **options)
    find_bounds(maxima, bounds, None, k)

    room = 2 * k * group
    found = rows.new_empty(q, dtype=torch.int32)
    keys = rows.new_empty((q, room), dtype=torch.int64)
    _gather[(q,)](bounds, *groups, found, keys, n, places, room, GROUP=group, BLOCK=64, num_warps=4)
    find_best(keys, found, *results, k)


def find_bounds(maxima: Tensor, bounds: Tensor, chosen: Tensor | None, k: int) -> None:
    q, blocks = maxima.shape
    block = triton.next_power_of_2(blocks)
    _bound[(q,)](
        maxima, bounds, chosen, blocks, k,
        BLOCK=block, CHOOSE=chosen is not None, num_warps=min(16, max(4, block // 256)),
    )  # fmt: skip


def find_best(keys: Tensor, counts: Tensor, scores: Tensor, best: Tensor, lost: Tensor, k: int) -> None:
    q, places = keys.shape
    block = max(16, triton.next_power_of_2(k))
    _best[(q,)](keys, counts, lost, scores, best, k, places, BLOCK_K=block, BLOCK=max(512, block), num_warps=4)
