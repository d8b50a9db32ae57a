"""The order of a ranking: higher scores first; of equal scores the image with the lower number; NaN last of all.

A score is the dot product of the stored values in double precision, summed in one fixed order. Equal descriptors
therefore have equal scores wherever they stand in a file, which no matrix product promises.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Descriptors: TypeAlias = NDArray[np.floating]
"""(n, dim) descriptors: float16, float32 or float64, in memory or memory-mapped."""

Keys: TypeAlias = NDArray[np.complex128]
"""(n,) score - i number. NumPy compares complex numbers by the real, then by the imaginary part: a greater key stands
earlier in the ranking, and no two images share one."""


def order_keys(queries: NDArray[np.floating], rows: Descriptors, numbers: NDArray[np.int64]) -> Keys:
    """Places of images in the ranking of a query.

    Args:
        queries: (dim,), or (n, dim), one for each image.
        rows: (n, dim), of the images.
        numbers: (n,), of the images in the database, distractors counted on from its end.
    """
    products = rows.astype(np.float64, order="C")
    products *= queries
    scores = products.sum(axis=1)
    keys = np.empty(len(rows), dtype=np.complex128)
    keys.real = np.where(np.isnan(scores), -np.inf, scores)
    keys.imag = -numbers
    return keys
