"""Inner products of one query with many descriptors, on one thread.

Not NumPy's: it wakes up further threads, which takes longer than the work for a few thousand descriptors.
"""

import faiss
import numpy as np

from glam.index.types import Descriptors, Rows, Scores


def inner_products(query: Descriptors, descriptors: Descriptors) -> Scores:
    """Inner products of a query (dim,) with descriptors (n, dim): (n,)."""
    query, descriptors = (np.ascontiguousarray(array, dtype=np.float32) for array in (query, descriptors))
    found = np.empty(len(descriptors), dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, descriptors)]
    faiss.fvec_inner_products_ny(*pointers, descriptors.shape[1], len(descriptors))  # type: ignore[attr-defined]
    return found


def inner_products_at(query: Descriptors, descriptors: Descriptors, rows: Rows) -> Scores:
    """Inner products of a query (dim,) with the descriptors in some rows, (n,); none of them is copied.

    Args:
        query: (dim,).
        descriptors: (m, dim) float32, contiguous.
        rows: (n,), each from 0 to m - 1.
    """
    query, rows = np.ascontiguousarray(query), np.ascontiguousarray(rows, dtype=np.int64)
    found = np.empty(len(rows), dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, descriptors, rows)]
    faiss.fvec_inner_products_by_idx(*pointers, descriptors.shape[1], 1, len(rows))  # type: ignore[attr-defined]
    return found
