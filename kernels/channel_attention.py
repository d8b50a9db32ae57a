"""Global channel attention: every output channel is a weighted mean of all input channels.

The weights are ``softmax(key^T query)`` over the key axis, with query and key in (0, 1) (they are sigmoids). Each logit
is thus a product of two numbers in (0, 1), and on that interval ``exp`` is a polynomial of degree 7 to float32
precision:

    exp(k q) = sum_n  c_n k^n q^n

So the (c, c) map has rank 8, and the attention is two skinny products instead of one c x c product an image.
"""

import torch
from torch import Tensor

# Chebyshev interpolation of exp on [0, 1] in the power basis, constant term first; error under 2e-9.
# `numpy.polynomial.Chebyshev.interpolate(numpy.exp, 7, domain=[0, 1]).convert(kind=numpy.polynomial.Polynomial).coef`
EXP_COEFFICIENTS = (
    0.999999998811473,
    1.0000001520051818,
    0.49999682138964807,
    0.16669188690092795,
    0.04156894257540955,
    0.00853712623870706,
    0.0011574931452287274,
    0.00032940606433840003,
)


def channel_attention(features: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Weighted means of the channels, by the rank-8 factors of the attention map.

    Args:
        features: (b, c, h, w).
        query: (b, c), in (0, 1).
        key: (b, c), in (0, 1).

    Returns:
        (b, c, h, w) of the dtype of ``features``: channel j is ``sum_i softmax_i(key_i query_j) features_i``.
    """
    batch, channels, height, width = features.shape
    key_factors, query_factors = low_rank_factors(query, key)
    weighted = key_factors.to(features.dtype).transpose(1, 2) @ features.reshape(batch, channels, height * width)
    mixed = query_factors.to(features.dtype) @ weighted
    return mixed.reshape(batch, channels, height, width)


def low_rank_factors(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Factors K, Q of the attention map, ``softmax(key^T query) = K Q^T``, the normaliser folded into Q.

    Args:
        query: (b, c), in (0, 1).
        key: (b, c), in (0, 1).

    Returns:
        K and Q, (b, c, 8) each, in single precision at least.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    coefficients = torch.tensor(EXP_COEFFICIENTS, device=query.device, dtype=dtype)
    key_powers = _powers(key.to(dtype), len(EXP_COEFFICIENTS))
    query_powers = _powers(query.to(dtype), len(EXP_COEFFICIENTS)) * coefficients
    normaliser = query_powers @ key_powers.sum(dim=1, keepdim=True).transpose(1, 2)
    return key_powers, query_powers / normaliser


def channel_attention_dense(features: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """The plain form of `channel_attention`: writes the (b, c, c) map. Same arguments and result."""
    batch, channels, height, width = features.shape
    dtype = torch.promote_types(query.dtype, torch.float32)
    logits = key.to(dtype).unsqueeze(2) * query.to(dtype).unsqueeze(1)  # (b, key c, query c)
    attention = logits.softmax(dim=1).to(features.dtype)
    values = features.reshape(batch, channels, height * width).transpose(1, 2)  # (b, hw, c)
    return (values @ attention).transpose(1, 2).reshape(batch, channels, height, width)


def _powers(x: Tensor, count: int) -> Tensor:
    """(b, c) to (b, c, count): x^0, x^1, ..., x^(count - 1)."""
    powers = [torch.ones_like(x)]
    for _ in range(count - 1):
        powers.append(powers[-1] * x)
    return torch.stack(powers, dim=-1)
