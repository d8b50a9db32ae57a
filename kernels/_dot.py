"""Matrix products for the Triton kernels, accumulated in single precision."""

import os

import torch
import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """``a @ b``."""
    if PRECISION == "widened":
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def add_product(total, a, b, PRECISION: tl.constexpr):
    """``total + a @ b``."""
    if PRECISION == "widened":
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def two_parts(x, first, dtype: tl.constexpr):
    """Splits float32 into a sum of two numbers of ``dtype``: x rounded where ``first``, else the rounding error."""
    rounded = x.to(dtype)
    return tl.where(first, rounded, (x - rounded.to(tl.float32)).to(dtype))


@triton.jit
def sum_of_row_parts(x):
    """Adds the second half of the rows to the first: (2 r, n) to (r, n)."""
    return tl.sum(tl.reshape(x, [2, x.shape[0] // 2, x.shape[1]]), 0)


@triton.jit
def sum_of_column_parts(x):
    """Adds the second half of the columns to the first: (n, 2 r) to (n, r)."""
    return tl.sum(tl.reshape(x, [x.shape[0], 2, x.shape[1] // 2]), 1)


def precision(dtype: torch.dtype) -> str:
    """Returns how to multiply a type: "as is", or "widened" to float32 because Triton's interpreter lacks bfloat16."""
    return "widened" if INTERPRETED and dtype == torch.bfloat16 else "as is"
