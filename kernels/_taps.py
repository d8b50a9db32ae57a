"""Triton kernels that shift the responses of taps into place and sum them; the gradient is the reverse shift."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64


@triton.jit
def _gather(
    responses, offsets, out,
    image_stride, row_stride, tap_stride,
    height, width,
    TAPS: tl.constexpr, BLOCK_TAPS: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    places = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    taps = tl.arange(0, BLOCK_TAPS)
    known = taps < TAPS
    y = places[:, None] // width + tl.load(offsets + 2 * taps, mask=known, other=0)[None, :]
    x = places[:, None] % width + tl.load(offsets + 2 * taps + 1, mask=known, other=0)[None, :]
    mask = (y >= 0) & (y < height) & (x >= 0) & (x < width) & known[None, :] & (places[:, None] < height * width)
    there = image * image_stride + (y * width + x) * row_stride + taps[None, :] * tap_stride
    seen = tl.load(responses + there, mask=mask, other=0.0)
    total = tl.sum(seen.to(tl.float32), 1)
    tl.store(out + image * height * width + places, total, mask=places < height * width)


@triton.jit
def _scatter(
    d_out, offsets, d_responses,
    height, width,
    TAPS: tl.constexpr, BLOCK_TAPS: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    places = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    taps = tl.arange(0, BLOCK_TAPS)
    known = taps < TAPS
    y = places[:, None] // width - tl.load(offsets + 2 * taps, mask=known, other=0)[None, :]
    x = places[:, None] % width - tl.load(offsets + 2 * taps + 1, mask=known, other=0)[None, :]
    here = known[None, :] & (places[:, None] < height * width)
    mask = (y >= 0) & (y < height) & (x >= 0) & (x < width) & here
    seen = tl.load(d_out + image * height * width + y * width + x, mask=mask, other=0.0)
    rows = image * height * width + places
    tl.store(d_responses + rows[:, None] * TAPS + taps[None, :], seen.to(d_responses.dtype.element_ty), mask=here)


def forward(responses: Tensor, height: int, width: int, dilations: Sequence[int]) -> Tensor:
    """Computes `glam.kernels.taps.shifted_sum`.

    Args:
        responses: response of each tap at each position, (b, h * w, 1 + 9 n).
        height: h of the feature map.
        width: w of the feature map.
        dilations: n dilations in positions.

    Returns:
        (b, h * w), float32.
    """
    batch, n, taps = responses.shape
    out = torch.empty((batch, n), device=responses.device, dtype=torch.float32)
    _gather[(triton.cdiv(n, BLOCK), batch)](
        responses, _offsets(tuple(dilations), responses.device), out, *responses.stride(), height, width,
        TAPS=taps, BLOCK_TAPS=triton.next_power_of_2(taps), BLOCK_N=BLOCK,
    )  # fmt: skip
    return out


def backward(d_out: Tensor, height: int, width: int, dilations: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Computes the gradient of the responses.

    Args:
        d_out: gradient of the result, (b, h * w).
        height: h of the feature map.
        width: w of the feature map.
        dilations: n dilations in positions.
        dtype: type of the responses.

    Returns:
        (b, h * w, 1 + 9 n), of type ``dtype``.
    """
    batch, n = d_out.shape
    taps = 1 + 9 * len(dilations)
    d_responses = torch.empty((batch, n, taps), device=d_out.device, dtype=dtype)
    _scatter[(triton.cdiv(n, BLOCK), batch)](
        d_out.contiguous(), _offsets(tuple(dilations), d_out.device), d_responses, height, width,
        TAPS=taps, BLOCK_TAPS=triton.next_power_of_2(taps), BLOCK_N=BLOCK,
    )  # fmt: skip
    return d_responses


@lru_cache(maxsize=32)
def _offsets(dilations: tuple[int, ...], device: torch.device) -> Tensor:
    """Offsets in rows and columns that each tap reads from, relative to its position: (1 + 9 n, 2), int32."""
    around = [(dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return torch.tensor([(0, 0), *around], dtype=torch.int32, device=device)
