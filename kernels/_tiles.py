"""Tiles of inner products between queries and rows."""

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._dot import add_product, precision


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


def tile_for(q: int) -> Tile:
    """The tile for so many queries."""
    return NARROW if q <= NARROW.queries else WIDE


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


@triton.jit
def tile_products(
    queries, rows, query, row, query_stride, row_stride, width,
    BLOCK_Q: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(BLOCK_Q, BLOCK_N) products of the queries and rows of these numbers: int32 of int8, else single precision."""
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
    """Products in single precision, never -0, which would compare as less than 0."""
    return products.to(tl.float32) + 0.0
