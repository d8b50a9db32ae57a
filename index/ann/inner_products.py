"""Inner products of one query with many descriptors, on one thread.

NumPy would start several threads, which for a few thousand descriptors takes longer than the computation.
"""

import faiss
import numpy as np

from glam.index.types import Descriptors, Rows, Scores


def inner_products(query: Descriptors, descriptors: Descriptors) -> Scores:
    """Inner products of a query with descriptors.

    Args:
        query: (dim,) float32.
        descriptors: (n, dim) float32.

    Returns:
        (n,) float32.
    """
    query, descriptors = (np.ascontiguousarray(array, dtype=np.float32) for array in (query, descriptors))
    found = np.empty(len(descriptors), dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, descriptors)]
    faiss.fvec_inner_products_ny(*pointers, descriptors.shape[1], len(descriptors))  # type: ignore[attr-defined]
    return found


def inner_products_at(query: Descriptors, descriptors: Descriptors, rows: Rows) -> Scores:
    """Inner products of a query with the descriptors in given rows, without copying them.

    Args:
        query: (dim,) float32.
        descriptors: (m, dim) float32, contiguous.
        rows: (n,) int64, from 0 to m - 1; they are not checked.

    Returns:
        (n,) float32.
    """
    query, rows = np.ascontiguousarray(query), np.ascontiguousarray(rows, dtype=np.int64)
    found = np.empty(len(rows), dtype=np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, query, descriptors, rows)]
    faiss.fvec_inner_products_by_idx(*pointers, descriptors.shape[1], 1, len(rows))  # type: ignore[attr-defined]
    return found
