"""Principal axes of vectors: the one decomposition behind PCA, whitening, and the PCA start of training."""

import torch
from torch import Tensor


def principal_axes(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The directions of largest variance about the origin, in float64; center the vectors first for a PCA.

    Args:
        vectors: (n, c), of any floating type.
        dim: directions to keep, at most c.

    Returns:
        (dim,) variances, descending, and (dim, c) orthonormal axes, float64, on the device of the vectors.
    """
    exact = vectors.double()
    variances, axes = torch.linalg.eigh(exact.T @ exact / len(exact))
    return variances.flip(0)[:dim], axes.T.flip(0)[:dim].contiguous()
