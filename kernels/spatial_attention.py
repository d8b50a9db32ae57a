"""Global spatial attention: every position is a weighted mean of the values at all positions, with no 1/sqrt(r)
scale."""

import torch.nn.functional as F
from torch import Tensor


def spatial_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over positions through PyTorch's fused kernels, which never write the (hw, hw) map.

    Args:
        query: (b, r, h, w).
        key: (b, r, h, w).
        value: (b, r, h, w).

    Returns:
        (b, r, h, w): position j is ``sum_i softmax_i(key_i . query_j) value_i``.
    """
    batch, reduced, height, width = query.shape
    q, k, v = (x.reshape(batch, 1, reduced, height * width).transpose(2, 3) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return mixed.transpose(2, 3).reshape(batch, reduced, height, width)


def spatial_attention_dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The plain form of `spatial_attention`: writes the (b, hw, hw) map. Same arguments and result."""
    attention = (key.flatten(2).transpose(1, 2) @ query.flatten(2)).softmax(dim=1)  # (b, key hw, query hw)
    return (value.flatten(2) @ attention).reshape(value.shape)
