"""The order of a ranking: higher scores first, lower rows first among equal scores, and NaN last.

A score is the dot product of the stored values in double precision, summed in a fixed order. Equal descriptors
therefore have equal scores in every row, which a matrix product does not guarantee.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Descriptors: TypeAlias = NDArray[np.floating]
"""(n, dim) descriptors: float16, float32 or float64, in memory or memory-mapped."""

Keys: TypeAlias = NDArray[np.complex128]
"""(n,) score - i row. NumPy compares complex numbers by the real, then by the imaginary part: an image with a greater
key is earlier in the ranking, and no two images share a key."""


def tie_break_keys(queries: NDArray[np.floating], descriptors: Descriptors, rows: NDArray[np.int64]) -> Keys:
    """Computes keys that sort images into the ranking of a query, including ties.

    Args:
        queries: (dim,) descriptor of the query, or (n, dim) with one query per image.
        descriptors: (n, dim) descriptors of the images.
        rows: (n,) rows of the images; rows of distractors follow those of the database.

    Returns:
        (n,) complex128 keys.
    """
    products = descriptors.astype(np.float64, order="C")
    products *= queries
    scores = products.sum(axis=1)
    keys = np.empty(len(descriptors), dtype=np.complex128)
    keys.real = np.where(np.isnan(scores), -np.inf, scores)
    keys.imag = -rows
    return keys


def without_direction(descriptors: Descriptors) -> NDArray[np.bool_]:
    """Returns which descriptors are zero or have a NaN: their scores say nothing, so they rank last and find nothing.

    Args:
        descriptors: (n, dim) descriptors.

    Returns:
        (n,) whether each one has no direction.
    """
    return np.asarray(np.isnan(descriptors).any(axis=1) | ~descriptors.astype(bool).any(axis=1))
