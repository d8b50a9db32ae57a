"""Triton kernels of exact top-k for many queries. Only scores that can be among the k best are written to memory.

    1. Sample: score some tiles of rows. At least k rows reach the k-th best of their maxima, the first bound.
    2. Append: score all tiles, and write the groups of rows whose best score reaches the bound.
    3. Raise the bound to the k-th best of the groups' maxima, and gather the rows that reach it, the candidates.
    4. Sort out the k best candidates.

The rows of a tile form four groups, which match the layout of a tensor core's result: each thread of a quad holds one
group. So the maximum of a group and the decision to write it take one comparison per score, and one thread writes it.

A candidate is a 64-bit key: the score, as an integer of the same order, in the high half, and the row, counted from the
end, in the low half. A larger key is a better rank, keys are unique, and the order of appending does not matter.
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
"""One of this many tiles of rows is sampled for the first bound; measured by ``benchmarks/top_k.py --sweep``."""

MOST_BLOCKS = 8192
"""Maximum count of numbers in which one program finds the k-th largest: maxima of a query's sampled tiles, or of its
groups."""

ROOM = 2
"""Slots for the groups of a query, as a multiple of the number expected for rows in random order; arbitrary."""

MOST_BYTES = 1 << 30
"""Maximum size in bytes of the groups of all queries that share a pass; arbitrary."""


@triton.jit
def _flipped(bits):
    """Maps the bits of float32 numbers to integers of the same order; the function is its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def keys_of(score, row):
    """Keys of candidates, int64: a larger key is a higher score, or among equal scores a lower row."""
    order = _flipped(score.to(tl.int32, bitcast=True)).to(tl.int64)
    return (order << 32) | (row ^ LAST_ROW).to(tl.int64)  # rows counted from the end


@triton.jit
def _sample(
    queries, rows, maxima,
    query_stride, row_stride, q, n, width, tiles, sampled,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Maximum score of each query in evenly spaced tiles of rows, (q, sampled)."""
    blocks = tl.cdiv(q, BLOCK_Q)
    place = tl.program_id(0) // blocks
    tile = (place.to(tl.int64) * tiles // sampled).to(tl.int32)
    query = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    row = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    # Queries and rows beyond the end repeat the last one, which does not change a maximum.
    product = tile_products(
        queries, rows, tl.minimum(query, q - 1), tl.minimum(row, n - 1), query_stride, row_stride, width,
        BLOCK_Q, BLOCK_N, BLOCK_D, EVEN, PRECISION,
    )  # fmt: skip
    tl.store(maxima + query.to(tl.int64) * sampled + place, scores_of(tl.max(product, 1)), mask=query < q)


@triton.jit
def _bound(maxima, bounds, chosen, blocks, k, BLOCK: tl.constexpr, CHOOSE: tl.constexpr):
    """The k-th largest of a query's maxima; with CHOOSE also the numbers of k blocks that contain the k best rows.

    Among blocks with equal maxima the first are chosen, because their rows have lower numbers.
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
    """Counts the groups of each query whose best score reaches its bound, and writes them while there are free slots.

    Group g of a tile consists of its rows 8 i + 2 g and 8 i + 2 g + 1. The kernel writes its best score, the number of
    its first row, and its products.
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
    bound = tl.load(bounds + query, mask=query < q, other=float("nan"))  # no score reaches NaN
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
    """Keys of a query's rows that reach its bound, and their number; ``room + 1`` if its groups exceeded the slots."""
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
    """The k best candidates of a query, in order; NaN and -1 if it has fewer than k, or more than there are slots."""
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
    """Returns whether there are enough tiles of rows to bound the k-th best score by the maxima of a sample.

    Args:
        q: number of queries.
        n: number of rows.
        k: number of best rows per query.
    """
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
    """Finds the k best rows of each query, except for queries that are lost.

    A query is lost if its groups or candidates exceed the slots, or if it has fewer than k candidates, for example
    because its scores are NaN. The caller must answer lost queries in another way.

    Args:
        queries: (q, d), float16, bfloat16, or int8; the values of a row are contiguous.
        rows: (n, d), of the same dtype; the values of a row are contiguous. `suits` must hold.
        k: number of best rows per query.
        tile: tile sizes; None for those of `tile_for`.
        sampled: one of this many tiles of rows is sampled for the first bound.
        room: slots for the groups of a query, as a multiple of the number expected for rows in random order.
        most_bytes: maximum size in bytes of the groups of all queries that share a pass.

    Returns:
        Scores, (q, k), float32, and rows, (q, k), int64, NaN and -1 for lost queries; and the number of lost queries,
        (1,), int32.
    """
    q, n = len(queries), len(rows)
    tile = tile or tile_for(q)
    tiles = triton.cdiv(n, tile.rows)
    sample = min(tiles, max(triton.cdiv(tiles, sampled), 2 * k), MOST_BLOCKS)
    expected = tiles * -math.log1p(-k / (sample + 1))
    places = min(triton.next_power_of_2(max(k, int(room * expected))), MOST_BLOCKS)
    together = min(
        q, max(tile.queries, most_bytes // (places * tile.rows))
    )  # a group has a quarter of a tile's rows, of 4 bytes each
    scores, best = rows.new_empty((q, k), dtype=torch.float32), rows.new_empty((q, k), dtype=torch.int64)
    lost = rows.new_zeros(1, dtype=torch.int32)
    for start in range(0, q, together):
        part = slice(start, start + together)
        _forward_part(queries[part], rows, k, tile, sample, places, (scores[part], best[part], lost))
    return scores, best, lost


def _forward_part(
    queries: Tensor, rows: Tensor, k: int, tile: Tile, sample: int, places: int, results: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Fills scores, rows, and the number of lost queries, for queries whose groups fit in memory together."""
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
    """Finds the k-th largest maximum of each query.

    Args:
        maxima: (q, blocks), float32, with up to `MOST_BLOCKS` blocks.
        bounds: receives the k-th largest maximum of each query, (q,), float32.
        chosen: receives the numbers of k blocks that contain the k best rows, (q, k), int32; None to skip this.
        k: number of best rows per query.
    """
    q, blocks = maxima.shape
    block = triton.next_power_of_2(blocks)
    _bound[(q,)](
        maxima, bounds, chosen, blocks, k,
        BLOCK=block, CHOOSE=chosen is not None, num_warps=min(16, max(4, block // 256)),
    )  # fmt: skip


def find_best(keys: Tensor, counts: Tensor, scores: Tensor, best: Tensor, lost: Tensor, k: int) -> None:
    """Finds the k best candidates of each query.

    Args:
        keys: keys of the candidates, (q, slots), int64.
        counts: number of candidates of each query, (q,), int32; more than there are slots marks a lost query.
        scores: receives the scores in descending order, (q, k), float32; NaN for a lost query.
        best: receives the rows, (q, k), int64; -1 for a lost query.
        lost: the number of lost queries is added to it, (1,), int32.
        k: number of best rows per query.
    """
    q, places = keys.shape
    block = max(16, triton.next_power_of_2(k))
    _best[(q,)](keys, counts, lost, scores, best, k, places, BLOCK_K=block, BLOCK=max(512, block), num_warps=4)
