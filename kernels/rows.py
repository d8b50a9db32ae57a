"""Rows of a feature map, one per position, and the mean of each channel."""

from typing import Any

import torch
from torch import Tensor

from glam.kernels import dispatch


def rows_and_means(features: Tensor) -> tuple[Tensor, Tensor]:
    """Converts a feature map to contiguous rows, and computes the mean of each channel in the same pass.

    Args:
        features: feature map, (b, c, h, w).

    Returns:
        Rows, (b, h * w, c), of the same dtype, and means, (b, c), in at least single precision.
    """
    flat = features.flatten(2)
    if dispatch.triton_for(features):
        if not torch.is_grad_enabled():
            from glam.kernels import _rows

            return _rows.forward(flat)
        rows, means = _RowsAndMeans.apply(flat)
        return rows, means
    rows = flat.transpose(1, 2).contiguous()
    return rows, rows.mean(dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))


class _RowsAndMeans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        from glam.kernels import _rows

        return _rows.forward(features)

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor, d_means: Tensor) -> Tensor:
        return (d_rows + (d_means / d_rows.shape[1]).to(d_rows.dtype).unsqueeze(1)).transpose(1, 2)
