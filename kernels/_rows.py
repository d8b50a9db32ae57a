"""Triton kernel that transposes a feature map to rows and computes the mean of each channel in the same pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _turn(
    features, rows, means,
    image_stride, channel_stride, place_stride,
    n, channels,
    COPY: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros([BLOCK_C], tl.float32)
    for start in range(0, n, BLOCK_N):
        places = start + tl.arange(0, BLOCK_N)
        mask = (places < n)[:, None] & (c < channels)[None, :]
        at = image * image_stride + places[:, None] * place_stride + c[None, :] * channel_stride
        seen = tl.load(features + at, mask=mask, other=0.0)
        total += tl.sum(seen.to(tl.float32), 0)
        if COPY:
            tl.store(rows + (image * n + places[:, None]) * channels + c[None, :], seen, mask=mask)
    tl.store(means + image * channels + c, total / n, mask=c < channels)


def forward(features: Tensor) -> tuple[Tensor, Tensor]:
    """Computes `glam.kernels.rows.rows_and_means` of a flattened feature map.

    Args:
        features: (b, c, n), with any strides.

    Returns:
        Contiguous rows, (b, n, c), without a copy if the memory already has this layout, and means, (b, c), float32.
    """
    batch, channels, n = features.shape
    turned = features.transpose(1, 2)
    rows = turned if turned.is_contiguous() else torch.empty_like(turned, memory_format=torch.contiguous_format)
    means = torch.empty((batch, channels), device=features.device, dtype=torch.float32)
    block = 32
    _turn[(triton.cdiv(channels, block), batch)](
        features, rows, means, *features.stride(), n, channels,
        COPY=rows is not turned, BLOCK_N=128, BLOCK_C=block, num_warps=4,
    )  # fmt: skip
    return rows, means
