"""Array types shared by the modules of the index, and the lookup of ids in a sorted array."""

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]
"""Float32 vectors of unit length, (n, dim), or (dim,) for one."""

Scores = NDArray[np.float32]
"""Cosine similarities, float32; -inf where there is no result."""

Rows = NDArray[np.int64]
"""Row indices into a descriptor matrix, int64; -1 for no row."""

Mask = NDArray[np.bool_]
"""(n,) booleans, one per row: True if the row may be a result."""

ImageIds = NDArray[np.int64]
"""Ids of images in the catalog, int64."""

SegmentNumbers = NDArray[np.int64]
"""Numbers of segments in the catalog, int64; -1 for no segment."""


def rows_of_ids(sorted_ids: NDArray[np.int64], ids: NDArray[np.int64]) -> Rows:
    """Looks up ids in an array of sorted ids.

    Args:
        sorted_ids: (n,) int64, strictly ascending.
        ids: int64 array of any shape, in any order.

    Returns:
        For each id its index in ``sorted_ids``, in the shape of ``ids``; -1 for an id that is not in it.
    """
    if not len(sorted_ids):
        return np.full(ids.shape, -1, dtype=np.int64)
    rows = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return np.where(sorted_ids[rows] == ids, rows, -1)
