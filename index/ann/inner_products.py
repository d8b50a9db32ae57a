"""Inner products of one query with many rows, on one thread.

Not NumPy's: it wakes up further threads, which takes longer than the work for a few thousand rows.
"""

import faiss
import numpy as np

from glam.index.types import Descriptors, Rows, Scores


def products(query: Descriptors, rows: Descriptors) -> Scores:
    """Of a query (dim,) with rows (n, dim): (n,)."""
    query, rows = (np.ascontiguousarray(array, dtype=np.float32) for array in (query, rows))
    found = np.empty(len(rows), dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, rows)]
    faiss.fvec_inner_products_ny(*pointers, rows.shape[1], len(rows))  # type: ignore[attr-defined]
    return found


def products_at(query: Descriptors, rows: Descriptors, positions: Rows) -> Scores:
    """Of a query (dim,) with the rows at these positions, (n,), where they lie: nothing is copied.

    Args:
        query: (dim,).
        rows: (m, dim) float32, contiguous.
        positions: (n,), each from 0 to m - 1.
    """
    query, positions = np.ascontiguousarray(query), np.ascontiguousarray(positions, dtype=np.int64)
    found = np.empty(len(positions), dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, rows, positions)]
    faiss.fvec_inner_products_by_idx(*pointers, rows.shape[1], 1, len(positions))  # type: ignore[attr-defined]
    return found
