"""Principal axes of vectors, shared by PCA, whitening, and the PCA initialization of training."""

import torch
from torch import Tensor


def principal_axes(vectors: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Computes the directions of largest variance about the origin. For a PCA, center the vectors first.

    Args:
        vectors: vectors, (n, c), of any floating-point type.
        dim: number of directions, at most c.

    Returns:
        Variances in descending order, (dim,), and orthonormal axes, (dim, c), float64, on the device of ``vectors``.
    """
    exact = vectors.double()
    variances, axes = torch.linalg.eigh(exact.T @ exact / len(exact))
    return variances.flip(0)[:dim], axes.T.flip(0)[:dim].contiguous()
