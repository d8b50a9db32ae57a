"""The matrix products that the Triton kernels share, summed in single precision."""

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


def precision(dtype: torch.dtype) -> str:
    """How products are made: as the type is, but that the interpreter cannot multiply bfloat16."""
    return "widened" if INTERPRETED and dtype == torch.bfloat16 else "as is"
