"""Triton kernels of the channel gates, forward and backward; one program per image.

They compute everything that GLAM derives from the channel means: the local gain, and the rank-8 factors of the global
channel attention (see `glam.kernels.channel_attention`).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

RANK = tl.constexpr(8)


@triton.jit
def _convolved(means, weight, image, c, channels, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """Sigmoid of the zero-padded convolution of the means, (channels,), and a weight, (TAPS,), at ``c``."""
    total = tl.zeros([BLOCK], tl.float32)
    for tap in tl.static_range(TAPS):
        at = c + tap - TAPS // 2
        seen = tl.load(means + image * channels + at, mask=(at >= 0) & (at < channels), other=0.0)
        total += seen * tl.load(weight + tap).to(tl.float32)
    return 1.0 / (1.0 + tl.exp(-total))


@triton.jit
def _gates(
    means, local, query, key, coefficients, gain, key_powers, query_factors,
    channels,
    LOCAL: tl.constexpr, GLOBAL: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < channels
    at = image * channels + c
    if LOCAL:
        tl.store(gain + at, _convolved(means, local, image, c, channels, TAPS, BLOCK), mask=inside)
    if GLOBAL:
        q = _convolved(means, query, image, c, channels, TAPS, BLOCK)
        k = tl.where(inside, _convolved(means, key, image, c, channels, TAPS, BLOCK) - 0.5, 0.0)
        k_power = tl.where(inside, 1.0, 0.0)
        q_power = tl.full([BLOCK], 1.0, tl.float32)
        normalizer = tl.zeros([BLOCK], tl.float32)
        first = image * channels * RANK + c
        for n in tl.static_range(RANK):
            k_factor = tl.load(coefficients + n) * k_power / channels
            normalizer += q_power * tl.sum(k_factor, 0)
            tl.store(key_powers + first + n * channels, k_factor, mask=inside)
            k_power *= k
            q_power *= q
        factor = 1.0 / normalizer
        for n in tl.static_range(RANK):
            tl.store(query_factors + first + n * channels, factor, mask=inside)
            factor *= q


@triton.jit
def _gates_backward(
    means, local, query, key, coefficients, d_gain, d_key_powers, d_query_factors, d_logits,
    channels,
    LOCAL: tl.constexpr, GLOBAL: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the inputs of the sigmoids, (b, LOCAL + 2 GLOBAL, channels): local, query, key."""
    image = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < channels
    at = image * channels + c
    out = d_logits + image * channels * (LOCAL + 2 * GLOBAL) + c
    if LOCAL:
        g = _convolved(means, local, image, c, channels, TAPS, BLOCK)
        tl.store(out, tl.load(d_gain + at, mask=inside, other=0.0) * g * (1.0 - g), mask=inside)
    if GLOBAL:
        q = _convolved(means, query, image, c, channels, TAPS, BLOCK)
        k = tl.where(inside, _convolved(means, key, image, c, channels, TAPS, BLOCK) - 0.5, 0.0)
        k_power = tl.where(inside, 1.0, 0.0)
        q_power = tl.full([BLOCK], 1.0, tl.float32)
        normalizer = tl.zeros([BLOCK], tl.float32)
        d_normalizer = tl.zeros([BLOCK], tl.float32)
        rise = tl.zeros([BLOCK], tl.float32)  # derivative of the normalizer by q
        d_query = tl.zeros([BLOCK], tl.float32)
        q_before = tl.zeros([BLOCK], tl.float32)  # the previous power
        first = image * channels * RANK + c
        for n in tl.static_range(RANK):
            total = tl.load(coefficients + n) * tl.sum(k_power, 0) / channels
            d_factor = tl.load(d_query_factors + first + n * channels, mask=inside, other=0.0)
            normalizer += q_power * total
            d_normalizer += d_factor * q_power
            rise += n * q_before * total
            d_query += d_factor * n * q_before
            q_before = q_power
            k_power *= k
            q_power *= q
        d_normalizer = tl.where(inside, -d_normalizer / (normalizer * normalizer), 0.0)
        d_query = d_query / normalizer + d_normalizer * rise
        d_key = tl.zeros([BLOCK], tl.float32)
        k_before = tl.zeros([BLOCK], tl.float32)
        k_power = tl.full([BLOCK], 1.0, tl.float32)
        q_power = tl.full([BLOCK], 1.0, tl.float32)
        for n in tl.static_range(RANK):
            d_power = tl.load(d_key_powers + first + n * channels, mask=inside, other=0.0)
            d_power = (d_power + tl.sum(d_normalizer * q_power, 0)) * tl.load(coefficients + n) / channels
            d_key += d_power * n * k_before
            k_before = k_power
            k_power *= k
            q_power *= q
        tl.store(out + LOCAL * channels, d_query * q * (1.0 - q), mask=inside)
        tl.store(out + (LOCAL + 1) * channels, d_key * (0.5 + k) * (0.5 - k), mask=inside)


Optional = Tensor | None


def forward(
    means: Tensor, local: Optional, query: Optional, key: Optional, coefficients: Tensor
) -> tuple[Optional, Optional, Optional]:
    """Computes `glam.kernels.channel_attention.channel_gates`.

    Args:
        means: mean of each channel, (b, c), float32.
        local: convolution of the local gain, (1, 1, k); None for no gain.
        query: convolution of the query, (1, 1, k); None for no factors.
        key: convolution of the key, (1, 1, k); None for no factors.
        coefficients: `EXP_COEFFICIENTS` on the device, (8,), float32.

    Returns:
        Local gain, (b, c), and factors K and Q, (b, 8, c) each, float32; None for those not requested.
    """
    batch, channels = means.shape
    gain = None if local is None else torch.empty_like(means)
    shape = batch, len(coefficients), channels
    key_powers = None if query is None else torch.empty(shape, device=means.device, dtype=torch.float32)
    query_factors = None if key_powers is None else torch.empty_like(key_powers)
    _gates[(batch,)](
        means,
        local,
        query,
        key,
        coefficients,
        gain,
        key_powers,
        query_factors,
        channels,
        **_options(means, local, query),
    )
    return gain, key_powers, query_factors


def backward(
    means: Tensor, local: Optional, query: Optional, key: Optional, coefficients: Tensor,
    d_gain: Optional, d_key_powers: Optional, d_query_factors: Optional,
) -> Tensor:  # fmt: skip
    """Computes the gradients of the inputs of the sigmoids.

    Args:
        means: mean of each channel, (b, c), float32.
        local: convolution of the local gain, (1, 1, k), or None.
        query: convolution of the query, (1, 1, k), or None.
        key: convolution of the key, (1, 1, k), or None.
        coefficients: `EXP_COEFFICIENTS` on the device, (8,), float32.
        d_gain: gradient of the local gain, (b, c), or None.
        d_key_powers: gradient of K, (b, 8, c), or None.
        d_query_factors: gradient of Q, (b, 8, c), or None.

    Returns:
        (b, m, c), float32, one row for each of local, query, and key that is not None.
    """
    batch, channels = means.shape
    d_logits = torch.empty((batch, (local is not None) + 2 * (query is not None), channels), device=means.device)
    incoming = (None if d is None else d.contiguous() for d in (d_gain, d_key_powers, d_query_factors))
    _gates_backward[(batch,)](
        means, local, query, key, coefficients, *incoming, d_logits, channels, **_options(means, local, query)
    )
    return d_logits


def _options(means: Tensor, local: Optional, query: Optional) -> dict[str, int]:
    weight = query if local is None else local
    return {
        "LOCAL": int(local is not None),
        "GLOBAL": int(query is not None),
        "TAPS": 0 if weight is None else weight.shape[-1],
        "BLOCK": triton.next_power_of_2(means.shape[1]),
        "num_warps": 8,
    }
