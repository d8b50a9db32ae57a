"""Descriptors averaged with those of other images: what query expansion and database augmentation are made of."""

import numpy as np

from glam.index.types import Descriptors, Scores


def averaged(descriptors: Descriptors, others: Descriptors, weights: Scores) -> Descriptors:
    """Weighted means of descriptors, each with some others, of unit length.

    Args:
        descriptors: (n, dim), each of weight 1.
        others: (n, k, dim), those that go with each.
        weights: (n, k), theirs.

    Returns:
        (n, dim).
    """
    return unit(descriptors + np.matmul(weights[:, None], others)[:, 0])


def powers(cosines: Scores, alpha: float) -> Scores:
    """Weights of images, of any shape: their cosines to the power of alpha; 0 where a cosine is not above 0."""
    weights: Scores = np.where(cosines > 0, np.maximum(cosines, 0) ** np.float32(alpha), np.float32(0))
    return weights


def unit(descriptors: Descriptors) -> Descriptors:
    """(..., dim) brought to unit length; zeros stay zeros."""
    lengths = np.linalg.norm(descriptors, axis=-1, keepdims=True)
    scaled: Descriptors = descriptors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled
