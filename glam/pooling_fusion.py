"""Fusion of GLAM and GeM: from the feature map to pooled features without the attended map in memory.

    F (b, c, h, w) -> rows (b, hw, c) and channel means
    rows  --one matrix product--> query, key, value, responses of the taps
    means --gates---------------> A_lc, factors K and Q of the global channel attention
    all of them --combine_and_pool--> (b, c)

The result is that of ``pool(glam(features))``. The fused form does not call the modules, so the unfused form runs if
one of them has hooks or was replaced.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.attention import GLAM, Attention
from glam.autocast import without_autocast
from glam.kernels import (
    channel_gates,
    combine_and_pool,
    dispatch,
    power_sums,
    rows_and_means,
    shifted_sum,
    spatial_attention,
    taps_of,
)
from glam.module_hooks import is_unmodified
from glam.pooling import GeM, Pooling


@dataclass(frozen=True)
class _Weights:
    """The weights of GLAM and GeM, joined into the matrices that the fused form multiplies by.

    Attributes:
        rows: matrix that projects each row, (3 r + taps, c): query, key, value, and taps; None without any of them.
        bias: bias of ``rows``, (3 r + taps,).
        output: output convolution of the global spatial attention, (c, r); None without it.
        output_bias: bias of ``output``, (c,).
        local: convolution along the channels of A_lc, (1, 1, k); None without A_lc.
        query: convolution along the channels of the query of G_c, (1, 1, k); None without G_c.
        key: convolution along the channels of the key of G_c, (1, 1, k); None without G_c.
        fusion: weights of the three streams, (3,).
        exponent: exponent of GeM, ().
    """

    rows: Tensor | None
    bias: Tensor | None
    output: Tensor | None
    output_bias: Tensor | None
    local: Tensor | None
    query: Tensor | None
    key: Tensor | None
    fusion: Tensor
    exponent: Tensor


def attended_and_pooled(attention: Attention, pool: Pooling, features: Tensor, class_token: Tensor | None) -> Tensor:
    """Applies an attention and a pooling, in the fused form if there is one and the kernels run on the device.

    Args:
        attention: attention module.
        pool: pooling module.
        features: feature map, (b, c, h, w).
        class_token: class token, (b, c), if the pooling uses it.

    Returns:
        Pooled features, (b, n), in at least single precision.
    """
    if isinstance(attention, GLAM) and isinstance(pool, GeM) and dispatch.triton_for(features):
        return attend_and_pool(attention, pool, features)
    pooled: Tensor = pool(attention(features), class_token)
    return pooled


def attend_and_pool(glam: GLAM, pool: GeM, features: Tensor) -> Tensor:
    """Computes ``pool(glam(features))`` without writing the attended feature map to memory.

    On a GPU this needs less time and memory than the two modules one after the other (docs/lab/speed.md).
    Gradients reach the features and all parameters.

    Examples:
        >>> pooled = glam.attend_and_pool(glam.GLAM(64, reduction=16), glam.GeM(), torch.rand(2, 64, 24, 32))
        >>> pooled.shape
        torch.Size([2, 64])

    Args:
        glam: attention module.
        pool: pooling module.
        features: feature map, (b, c, h, w).

    Returns:
        Pooled features, (b, c), in at least single precision.
    """
    if not (glam.is_unmodified() and is_unmodified(pool, GeM)):
        return pool(glam(features))  # type: ignore[no-any-return]
    device = features.device.type
    if device == "meta":  # no kernel runs on it, and it has no autocast
        return pool(glam(features))  # type: ignore[no-any-return]
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    with without_autocast(device):
        return _attend_and_pool(glam, pool, features.to(dtype))


def _attend_and_pool(glam: GLAM, pool: GeM, features: Tensor) -> Tensor:
    height, width = features.shape[-2:]
    rows, means = rows_and_means(features)
    weights = _weights(glam, pool, rows.dtype)
    gain, key_powers, query_factors = channel_gates(means, weights.local, weights.query, weights.key)
    weighted = None if key_powers is None else power_sums(rows, key_powers)
    spatial = position = None
    first = 0
    projected = rows if weights.rows is None else F.linear(rows, weights.rows, weights.bias)
    if glam.global_spatial is not None:
        first = 3 * glam.global_spatial.reduction
        mixed = spatial_attention(*projected[..., :first].chunk(3, dim=-1))
        spatial = F.linear(mixed, weights.output, weights.output_bias)  # type: ignore[arg-type]
    if glam.local_spatial is not None and glam.local_spatial.linear:
        responses = projected[..., first : first + glam.local_spatial.taps]
        position = shifted_sum(responses, height, width, glam.local_spatial.dilations)
    elif glam.local_spatial is not None:
        with torch.autocast(features.device.type, rows.dtype, enabled=rows.dtype.itemsize < 4):
            position = glam.local_spatial.as_drawn(features).flatten(1)
    position = None if position is None else position.to(means.dtype)
    return combine_and_pool(
        rows, gain, position, weighted, query_factors, spatial, weights.fusion, weights.exponent, pool.eps
    )


def _weights(glam: GLAM, pool: GeM, dtype: torch.dtype) -> _Weights:
    """Joins the weights in a dtype. If gradients are off, the result is cached until a parameter changes."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _join_weights(glam, pool, dtype)
    cache = glam.weight_cache
    if not isinstance(cache, _WeightCache) or not cache.is_current(pool, dtype):
        glam.weight_cache = cache = _WeightCache(glam, pool, dtype)
    return cache.weights


class _WeightCache:
    """Joined weights, and the versions of the parameters that they were computed from.

    Keeps references to the dictionaries of the modules, because iterating over the modules takes longer than a kernel.
    """

    def __init__(self, glam: GLAM, pool: GeM, dtype: torch.dtype) -> None:
        self.pool = pool
        self.children = [
            (parent._modules, name, child) for parent in glam.modules() for name, child in parent._modules.items()
        ]
        self.owners = [
            (module._parameters, name)
            for part in (glam, pool)
            for module in part.modules()
            for name in module._parameters
        ]
        self.versions = self.parameter_versions(dtype)
        self.weights = _join_weights(glam, pool, dtype)

    def is_current(self, pool: GeM, dtype: torch.dtype) -> bool:
        """Returns whether the weights are those of this GeM in this dtype, and no module or parameter changed."""
        return (
            pool is self.pool
            and all(children[name] is child for children, name, child in self.children)
            and self.versions == self.parameter_versions(dtype)
        )

    def parameter_versions(self, dtype: torch.dtype) -> tuple[object, ...]:
        """Returns the dtype, and the address and version of each parameter.

        An optimizer step, loading a checkpoint, or a move to another device changes them.
        """
        parameters = (owner[name] for owner, name in self.owners)
        return dtype, *((p.data_ptr(), p._version) for p in parameters if p is not None)


def _join_weights(glam: GLAM, pool: GeM, dtype: torch.dtype) -> _Weights:
    lc, ls, gc, gs = glam.local_channel, glam.local_spatial, glam.global_channel, glam.global_spatial
    single = torch.promote_types(dtype, torch.float32)
    rows: list[Tensor] = []
    bias: list[Tensor] = []
    if gs is not None:
        for conv in (gs.query, gs.key, gs.value):
            rows.append(conv.weight.flatten(1))
            bias.append(conv.bias)  # type: ignore[arg-type]
    if ls is not None and ls.linear:
        taps = taps_of(*ls.fold())
        spare = -sum(len(part) for part in (*rows, taps)) % 8  # tensor cores prefer multiples of 8
        rows += [taps, taps.new_zeros(spare, taps.shape[1])]
        bias += [ls.merge.bias, taps.new_zeros(len(taps) - 1 + spare)]  # type: ignore[list-item]  # the bias goes to the center tap
    return _Weights(
        rows=torch.cat(rows).to(dtype) if rows else None,
        bias=torch.cat(bias).to(dtype) if rows else None,
        output=None if gs is None else gs.output.weight.flatten(1).to(dtype),
        output_bias=None if gs is None else gs.output.bias.to(dtype),  # type: ignore[union-attr]
        local=None if lc is None else lc.conv.weight,
        query=None if gc is None else gc.query.weight,
        key=None if gc is None else gc.key.weight,
        fusion=glam.fusion_weights().to(single),
        exponent=pool.p.to(single),
    )
