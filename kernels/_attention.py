"""Triton kernels of global spatial attention, without a scale, for rows of up to 512 values; forward and backward.

Each program holds a block of queries and loops over the keys (in the backward pass, a second kernel does the reverse),
so the (n, n) map never leaves the chip. In the forward pass, values wider than 256 are split, and each part is mixed by
a separate program that computes the same weights again: two parts of 256 with 128 queries are faster than one of 512
with 64. Logits are in base 2. Rows can be strided, so query, key, and value can be slices of one matrix.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from glam.kernels._dot import add_product, precision, product

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _forward(
    query, key, value, out, log_sum,
    query_image, query_row, key_image, key_row, value_image, value_row,
    n, width,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, WIDTH: tl.constexpr, PART: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    queries = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    columns = tl.arange(0, WIDTH)
    part = tl.program_id(2) * PART + tl.arange(0, PART)
    inside = columns[None, :] < width
    q_mask = (queries[:, None] < n) & inside
    q = tl.load(query + image * query_image + queries[:, None] * query_row + columns[None, :], mask=q_mask, other=0.0)
    largest = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, PART], tl.float32)
    for start in range(0, n, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        mask = (keys[:, None] < n) & inside
        k = tl.load(key + image * key_image + keys[:, None] * key_row + columns[None, :], mask=mask, other=0.0)
        logits = product(q, tl.trans(k), PRECISION) * LOG2_E
        logits = tl.where(keys[None, :] < n, logits, float("-inf"))
        above = tl.maximum(largest, tl.max(logits, 1))
        weights = tl.exp2(logits - above[:, None])
        shrink = tl.exp2(largest - above)
        total = total * shrink + tl.sum(weights, 1)
        v_mask = (keys[:, None] < n) & (part[None, :] < width)
        v = tl.load(value + image * value_image + keys[:, None] * value_row + part[None, :], mask=v_mask, other=0.0)
        mixed = add_product(mixed * shrink[:, None], weights.to(v.dtype), v, PRECISION)
        largest = above
    mixed = mixed / total[:, None]
    rows = image * n + queries
    out_mask = (queries[:, None] < n) & (part[None, :] < width)
    tl.store(out + rows[:, None] * width + part[None, :], mixed.to(out.dtype.element_ty), mask=out_mask)
    tl.store(log_sum + rows, largest + tl.log2(total), mask=(queries < n) & (tl.program_id(2) == 0))


@triton.jit
def _backward_keys(
    query, key, value, d_out, log_sum, delta, d_key, d_value,
    query_image, query_row, key_image, key_row, value_image, value_row,
    n, width,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    keys = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    columns = tl.arange(0, WIDTH)
    inside = columns[None, :] < width
    k_mask = (keys[:, None] < n) & inside
    k = tl.load(key + image * key_image + keys[:, None] * key_row + columns[None, :], mask=k_mask, other=0.0)
    v = tl.load(value + image * value_image + keys[:, None] * value_row + columns[None, :], mask=k_mask, other=0.0)
    dk = tl.zeros([BLOCK_K, WIDTH], tl.float32)
    dv = tl.zeros([BLOCK_K, WIDTH], tl.float32)
    for start in range(0, n, BLOCK_Q):
        queries = start + tl.arange(0, BLOCK_Q)
        rows = image * n + queries
        mask = (queries[:, None] < n) & inside
        q = tl.load(query + image * query_image + queries[:, None] * query_row + columns[None, :], mask=mask, other=0.0)
        do = tl.load(d_out + rows[:, None] * width + columns[None, :], mask=mask, other=0.0)
        sums = tl.load(log_sum + rows, mask=queries < n, other=float("inf"))  # outside: weight 0
        shift = tl.load(delta + rows, mask=queries < n, other=0.0)
        logits = product(k, tl.trans(q), PRECISION) * LOG2_E
        weights = tl.exp2(logits - sums[None, :])  # (keys, queries)
        dv = add_product(dv, weights.to(do.dtype), do, PRECISION)
        d_weights = product(v, tl.trans(do), PRECISION)
        d_logits = weights * (d_weights - shift[None, :])
        dk = add_product(dk, d_logits.to(q.dtype), q, PRECISION)
    rows = image * n + keys
    places = rows[:, None] * width + columns[None, :]
    tl.store(d_key + places, dk.to(d_key.dtype.element_ty), mask=k_mask)
    tl.store(d_value + places, dv.to(d_value.dtype.element_ty), mask=k_mask)


@triton.jit
def _backward_queries(
    query, key, value, d_out, log_sum, delta, d_query,
    query_image, query_row, key_image, key_row, value_image, value_row,
    n, width,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    queries = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    rows = image * n + queries
    columns = tl.arange(0, WIDTH)
    inside = columns[None, :] < width
    q_mask = (queries[:, None] < n) & inside
    q = tl.load(query + image * query_image + queries[:, None] * query_row + columns[None, :], mask=q_mask, other=0.0)
    do = tl.load(d_out + rows[:, None] * width + columns[None, :], mask=q_mask, other=0.0)
    sums = tl.load(log_sum + rows, mask=queries < n, other=float("inf"))
    shift = tl.load(delta + rows, mask=queries < n, other=0.0)
    dq = tl.zeros([BLOCK_Q, WIDTH], tl.float32)
    for start in range(0, n, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        mask = (keys[:, None] < n) & inside
        k = tl.load(key + image * key_image + keys[:, None] * key_row + columns[None, :], mask=mask, other=0.0)
        v = tl.load(value + image * value_image + keys[:, None] * value_row + columns[None, :], mask=mask, other=0.0)
        logits = product(q, tl.trans(k), PRECISION) * LOG2_E
        weights = tl.where(keys[None, :] < n, tl.exp2(logits - sums[:, None]), 0.0)
        d_weights = product(do, tl.trans(v), PRECISION)
        d_logits = weights * (d_weights - shift[:, None])
        dq = add_product(dq, d_logits.to(k.dtype), k, PRECISION)
    tl.store(d_query + rows[:, None] * width + columns[None, :], dq.to(d_query.dtype.element_ty), mask=q_mask)


def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Computes attention over positions.

    Args:
        query: (b, n, r); the values of a row must be contiguous.
        key: (b, n, r), of the same dtype.
        value: (b, n, r), of the same dtype.

    Returns:
        Mixed values, (b, n, r), and the base-2 logarithm of each query's sum of exponentials, (b, n), float32.
    """
    batch, n, width = query.shape
    out = torch.empty((batch, n, width), device=query.device, dtype=query.dtype)
    log_sum = torch.empty((batch, n), device=query.device, dtype=torch.float32)
    options = _options(query, block_q=128, block_k=64)
    part = min(256, options["WIDTH"])
    _forward[(triton.cdiv(n, options["BLOCK_Q"]), batch, options["WIDTH"] // part)](
        query, key, value, out, log_sum, *_strides(query, key, value), n, width, PART=part, **options
    )
    return out, log_sum


def backward(
    d_out: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, log_sum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of `forward`.

    Args:
        d_out: gradient of the mixed values, (b, n, r).
        query: query of `forward`, (b, n, r).
        key: key of `forward`, (b, n, r).
        value: value of `forward`, (b, n, r).
        out: first result of `forward`, (b, n, r).
        log_sum: second result of `forward`, (b, n).

    Returns:
        Gradients of query, key, and value, (b, n, r) each.
    """
    batch, n, width = query.shape
    d_out = d_out.contiguous()
    delta = (d_out.float() * out.float()).sum(dim=-1)
    d_query, d_key, d_value = (torch.empty_like(out) for _ in range(3))
    strides = _strides(query, key, value)
    options = _options(query, block_q=32, block_k=32)
    _backward_keys[(triton.cdiv(n, options["BLOCK_K"]), batch)](
        query, key, value, d_out, log_sum, delta, d_key, d_value, *strides, n, width, **options
    )
    options = _options(query, block_q=64, block_k=32)
    _backward_queries[(triton.cdiv(n, options["BLOCK_Q"]), batch)](
        query, key, value, d_out, log_sum, delta, d_query, *strides, n, width, **options
    )
    return d_query, d_key, d_value


def _strides(*tensors: Tensor) -> list[int]:
    """Strides of the image and row axes of each tensor; the values of a row must be contiguous."""
    return [stride for tensor in tensors for stride in tensor.stride()[:2]]


def _options(like: Tensor, *, block_q: int, block_k: int) -> dict[str, int | str]:
    """Launch options with block sizes that fit in shared memory; float32 takes twice the space of half precision."""
    width = max(16, triton.next_power_of_2(like.shape[-1]))
    if like.dtype == torch.float32:
        block_q, block_k = 16, 16
    return {
        "BLOCK_Q": block_q, "BLOCK_K": block_k, "WIDTH": width, "PRECISION": precision(like.dtype),
        "num_warps": 8 if width * block_q >= 64 * 256 else 4, "num_stages": 2 if width <= 256 else 1,
    }  # fmt: skip
