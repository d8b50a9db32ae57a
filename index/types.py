"""The arrays that pass between the modules of the index."""

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
