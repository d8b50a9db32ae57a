"""What the arrays are that pass between the modules of the index."""

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]
"""Descriptors of unit length, (n, dim)."""

Scores = NDArray[np.float32]
"""Cosines; -inf where there is no result."""

Rows = NDArray[np.int64]
"""Numbers of rows in the order in which they were added; -1 where there is no result."""

Mask = NDArray[np.bool_]
"""Which positions may be results."""

ImageIds = NDArray[np.int64]
"""Of images in the catalog, or of rows in a segment."""
