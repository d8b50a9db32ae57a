"""Global channel attention: each output channel is a weighted mean of all input channels.

The weights are ``softmax(key^T query)`` over the key axis; query and key are sigmoids, so they are in (0, 1).
Subtracting 1/2 from every key does not change the softmax. Each logit is then in (-1/2, 1/2), where a polynomial of
degree 7 approximates ``exp`` to float32 precision:

    exp((k - 1/2) q) = sum_n  c_n (k - 1/2)^n q^n

So the (c, c) map has rank 8, and two thin products replace one c x c product per image. Subtracting 1/2 also keeps the
gradients exact: they are differences, whose terms are small without the constant part.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.kernels import dispatch

# Chebyshev interpolation of exp on [-1/2, 1/2] in the power basis, constant term first; the error is below 1e-9:
# `Chebyshev.interpolate(numpy.exp, 7, domain=[-0.5, 0.5]).convert(kind=Polynomial).coef` in numpy.polynomial.
EXP_COEFFICIENTS = (
    0.9999999992389002,
    0.9999999999155208,
    0.5000000974123686,
    0.16666667747943453,
    0.04166471933073268,
    0.008333117159907033,
    0.0014013371521741647,
    0.00019979487660748418,
)


def channel_attention(features: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Computes weighted means of the channels from the rank-8 factors of the attention map.

    Args:
        features: feature map, (b, c, h, w).
        query: query of each channel, (b, c), in (0, 1).
        key: key of each channel, (b, c), in (0, 1).

    Returns:
        (b, c, h, w), of the dtype of ``features``; channel j is ``sum_i softmax_i(key_i query_j) features_i``.
    """
    if dispatch.plain():
        return channel_attention_dense(features, query, key)
    batch, channels, height, width = features.shape
    key_factors, query_factors = low_rank_factors(query, key)
    weighted = key_factors.to(features.dtype) @ features.reshape(batch, channels, height * width)
    mixed = query_factors.to(features.dtype).transpose(1, 2) @ weighted
    return mixed.reshape(batch, channels, height, width)


def channel_gates(
    pooled: Tensor, local: Tensor | None, query: Tensor | None, key: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Computes what GLAM derives from the channel means: the local gain, and the factors of the global attention.

    Args:
        pooled: mean of each channel, (b, c).
        local: weight of the convolution along the channels for the local gain, (1, 1, k), k odd; None for no gain.
        query: weight of the convolution for the query of the global attention, (1, 1, k); None for no factors.
        key: weight of the convolution for the key of the global attention, (1, 1, k); None for no factors.

    Returns:
        Local gain, (b, c), and the factors K and Q of `low_rank_factors`, (b, 8, c) each, in at least single precision;
        None for those not requested.
    """
    if dispatch.triton_for(pooled):
        if not torch.is_grad_enabled():
            from glam.kernels import _channel

            return _channel.forward(pooled, local, query, key, _coefficients(pooled.device))
        found: tuple[Tensor | None, Tensor | None, Tensor | None] = _ChannelGates.apply(pooled, local, query, key)
        return found
    gain = None if local is None else along_channels(pooled, local)
    if query is None or key is None:
        return gain, None, None
    key_powers, query_factors = low_rank_factors(along_channels(pooled, query), along_channels(pooled, key))
    return gain, key_powers, query_factors


def power_sums(rows: Tensor, key_powers: Tensor) -> Tensor:
    """Sums the channels weighted by the powers of the key, in single precision for any type of the rows.

    The gradient of a key is a small difference of the gradients of these sums; in bfloat16 it would lose two digits.

    Args:
        rows: feature map, one row per position, (b, n, c).
        key_powers: K of `low_rank_factors`, (b, 8, c).

    Returns:
        (b, n, 8), of the dtype of ``key_powers``.
    """
    if not dispatch.triton_for(rows):
        return rows.to(key_powers.dtype) @ key_powers.transpose(1, 2)
    if not torch.is_grad_enabled():
        from glam.kernels import _power_sums

        return _power_sums.forward(rows.contiguous(), key_powers.contiguous())
    sums: Tensor = _PowerSums.apply(rows.contiguous(), key_powers.contiguous())
    return sums


def along_channels(pooled: Tensor, weight: Tensor) -> Tensor:
    """Applies a zero-padded convolution along the channels, and a sigmoid.

    Args:
        pooled: mean of each channel, (b, c).
        weight: weight of the convolution, (1, 1, k), k odd.

    Returns:
        (b, c), in (0, 1).
    """
    weight = weight.to(pooled.dtype)
    return F.conv1d(pooled.unsqueeze(1), weight, padding=weight.shape[-1] // 2).squeeze(1).sigmoid()


def low_rank_factors(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Computes factors K and Q of the attention map, ``softmax(key^T query) = K^T Q``; row n has the n-th powers.

    K includes the coefficients of the polynomial, divided by the number of channels so that sums over channels do not
    overflow in half precision. Q includes the normalizer of the softmax.

    Args:
        query: query of each channel, (b, c), in (0, 1).
        key: key of each channel, (b, c), in (0, 1).

    Returns:
        K and Q, (b, 8, c) each, in at least single precision.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    coefficients = torch.tensor(EXP_COEFFICIENTS, device=query.device, dtype=dtype)[:, None]
    key_powers = _powers(key.to(dtype) - 0.5) * (coefficients / key.shape[1])
    query_powers = _powers(query.to(dtype))
    normalizer = (query_powers * key_powers.sum(dim=2, keepdim=True)).sum(dim=1, keepdim=True)
    return key_powers, query_powers / normalizer


def channel_attention_dense(features: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Plain form of `channel_attention`, which writes the (b, c, c) map.

    Args:
        features: feature map, (b, c, h, w).
        query: query of each channel, (b, c), in (0, 1).
        key: key of each channel, (b, c), in (0, 1).

    Returns:
        (b, c, h, w), of the dtype of ``features``.
    """
    batch, channels, height, width = features.shape
    dtype = torch.promote_types(query.dtype, torch.float32)
    logits = key.to(dtype).unsqueeze(2) * query.to(dtype).unsqueeze(1)  # (b, key c, query c)
    attention = logits.softmax(dim=1).to(features.dtype)
    values = features.reshape(batch, channels, height * width).transpose(1, 2)  # (b, hw, c)
    return (values @ attention).transpose(1, 2).reshape(batch, channels, height, width)


def _powers(x: Tensor) -> Tensor:
    """Powers x^0 to x^7: (b, c) to (b, 8, c)."""
    powers = [torch.ones_like(x)]
    for _ in EXP_COEFFICIENTS[1:]:
        powers.append(powers[-1] * x)
    return torch.stack(powers, dim=1)


@lru_cache(maxsize=8)
def _coefficients(device: torch.device) -> Tensor:
    return torch.tensor(EXP_COEFFICIENTS, device=device)


class _ChannelGates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pooled: Tensor, local: Any, query: Any, key: Any) -> Any:
        from glam.kernels import _channel

        ctx.save_for_backward(pooled, local, query, key)
        return _channel.forward(pooled, local, query, key, _coefficients(pooled.device))

    @staticmethod
    def backward(ctx: Any, d_gain: Any, d_key_powers: Any, d_query_factors: Any) -> Any:
        from glam.kernels import _channel

        pooled, local, query, key = ctx.saved_tensors
        coefficients = _coefficients(pooled.device)
        d_logits = _channel.backward(pooled, local, query, key, coefficients, d_gain, d_key_powers, d_query_factors)
        weights = local, query, key
        present = [weight for weight in weights if weight is not None]
        if not present:
            return None, None, None, None
        kernel = torch.cat(present).float()  # (m, 1, k)
        d_pooled = F.conv_transpose1d(d_logits, kernel, padding=kernel.shape[-1] // 2).squeeze(1)
        around = F.pad(pooled, [kernel.shape[-1] // 2] * 2).unfold(1, kernel.shape[-1], 1)  # (b, c, k)
        d_weights = iter((d_logits @ around).sum(dim=0)[:, None, None])
        return d_pooled, *(None if w is None else next(d_weights).to(w.dtype) for w in weights)


class _PowerSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, key_powers: Tensor) -> Tensor:
        from glam.kernels import _power_sums

        ctx.save_for_backward(rows, key_powers)
        return _power_sums.forward(rows, key_powers)

    @staticmethod
    def backward(ctx: Any, d_sums: Tensor) -> Any:
        from glam.kernels import _power_sums

        rows, key_powers = ctx.saved_tensors
        d_rows = d_sums.to(rows.dtype) @ key_powers.to(rows.dtype)
        return d_rows, _power_sums.backward(rows, d_sums.contiguous())
