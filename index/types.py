"""The arrays that pass between the modules of the index, and the lookup of ids in a sorted one."""

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]
"""Float32 vectors of unit length, (n, dim), or (dim,) for one."""

Scores = NDArray[np.float32]
"""Cosine similarities, float32; -inf where there is no result."""

Rows = NDArray[np.int64]
"""Indices into a matrix of descriptors, int64; -1 for none."""

Mask = NDArray[np.bool_]
"""(n,) booleans, one per row: which rows may be results."""

ImageIds = NDArray[np.int64]
"""Numbers of images in the catalog, int64."""

SegmentNumbers = NDArray[np.int64]
"""Numbers of segments in the catalog, int64; -1 for none."""


def rows_of_ids(sorted_ids: NDArray[np.int64], ids: NDArray[np.int64]) -> Rows:
    """The row of each id in an array of sorted ids.

    Args:
        sorted_ids: (n,), rising, none twice.
        ids: of any shape, in any order.

    Returns:
        Indices into ``sorted_ids`` in the shape of ``ids``; -1 for an id that is not there.
    """
    if not len(sorted_ids):
        return np.full(ids.shape, -1, dtype=np.int64)
    rows = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return np.where(sorted_ids[rows] == ids, rows, -1)
