"""Weighted means of descriptors, for query expansion and database-side augmentation."""

import numpy as np

from glam.index.types import Descriptors, Scores


def averaged(descriptors: Descriptors, others: Descriptors, weights: Scores) -> Descriptors:
    """Weighted means of descriptors, each with k others.

    Args:
        descriptors: (n, dim) float32; each has weight 1.
        others: (n, k, dim) float32, the k others of each descriptor.
        weights: (n, k) float32, weights of the others.

    Returns:
        (n, dim) float32 of unit length.
    """
    return unit(descriptors + np.matmul(weights[:, None], others)[:, 0])


def powers(cosines: Scores, alpha: float) -> Scores:
    """Powers of cosine similarities, as weights.

    Args:
        cosines: float32 of any shape.
        alpha: the exponent, at least 0.

    Returns:
        ``cosines ** alpha`` in the same shape; 0 where a cosine is not positive.
    """
    weights: Scores = np.where(cosines > 0, np.maximum(cosines, 0) ** np.float32(alpha), np.float32(0))
    return weights


def unit(descriptors: Descriptors) -> Descriptors:
    """Normalizes descriptors (..., dim) to unit length; zeros stay zeros."""
    lengths = np.linalg.norm(descriptors, axis=-1, keepdims=True)
    scaled: Descriptors = descriptors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled
