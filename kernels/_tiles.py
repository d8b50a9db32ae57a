"""Tiles of inner products between queries and rows, for the top-k kernels."""

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._dot import add_product, precision


@dataclass(frozen=True)
class Tile:
    """Tile sizes of a program; the values were measured by ``benchmarks/top_k.py --sweep``.

    Attributes:
        queries: number of queries in a tile.
        rows: number of rows in a tile.
        width: bytes of each query and row that are multiplied per step.
        warps: number of warps of a program.
        stages: number of pipeline stages of a program.
        registers: maximum registers per thread; with 128, two programs of 8 warps fit on a multiprocessor.
    """

    queries: int = 128
    rows: int = 128
    width: int = 128
    warps: int = 8
    stages: int = 3
    registers: int | None = 128


WIDE = Tile()
"""For more than 64 queries."""
NARROW = Tile(queries=64, warps=4, registers=168)
"""For up to 64 queries, where reading the rows takes most of the time."""


def tile_for(q: int) -> Tile:
    """Returns the tile for ``q`` queries."""
    return NARROW if q <= NARROW.queries else WIDE


def tile_options(tile: Tile, rows: Tensor) -> dict[str, Any]:
    """Returns the compile-time options of a kernel that multiplies tiles of these rows, (n, d)."""
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


@triton.jit
def tile_products(
    queries, rows, query, row, query_stride, row_stride, width,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Inner products of the given queries and rows, (BLOCK_Q, BLOCK_N): int32 for int8, else float32."""
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
    return total


@triton.jit
def scores_of(products):
    """Products as float32, with -0 replaced by 0, because `keys_of` would order -0 below 0."""
    return products.to(tl.float32) + 0.0
