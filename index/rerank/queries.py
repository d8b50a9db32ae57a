"""Validation of the queries given to `glam.index.Index.search`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glam.errors import GlamError
from glam.index.rerank.base import Query
from glam.index.types import Descriptors

UNIT_TOLERANCE = 1e-3
"""Largest allowed deviation of a query's length from 1. Rounding to float16 changes a length by at most half of it."""


def as_queries(queries: ArrayLike | Query | Sequence[Query], dim: int) -> list[Query]:
    """Checks queries, and converts their descriptors to float32.

    Args:
        queries: descriptors of unit length, (dim,) or (q, dim), floating point; or `Query` objects with descriptors
            (dim,).
        dim: length of a descriptor in the index.

    Returns:
        One `Query` per descriptor.

    Raises:
        GlamError: a descriptor has a wrong type, shape, or length.
    """
    given = [queries] if isinstance(queries, Query) else queries
    if isinstance(given, Sequence) and any(isinstance(query, Query) for query in given):
        return [
            replace(query, descriptor=_checked(query.descriptor, dim, 1))
            if isinstance(query, Query)
            else Query(_checked(query, dim, 1))
            for query in given
        ]
    return [Query(row) for row in np.atleast_2d(_checked(given, dim, 2))]


def _checked(queries: object, dim: int, most_axes: int) -> Descriptors:
    """Checks descriptors (dim,), or (q, dim) if ``most_axes`` is 2; returns them as contiguous float32."""
    shapes = f"({dim},)" if most_axes == 1 else f"({dim},) or (q, {dim})"
    try:
        array: NDArray[np.generic] = np.asarray(queries)
    except (TypeError, ValueError) as error:
        raise GlamError(f"The queries are not an array of numbers. Give an array of shape {shapes}.") from error
    if not np.issubdtype(array.dtype, np.floating):
        raise GlamError(f"Queries of type {array.dtype} are not descriptors. Give float32 from `model.describe`.")
    if not 1 <= array.ndim <= most_axes or array.shape[-1] != dim:
        raise GlamError(
            f"Queries of shape {array.shape} do not fit an index of descriptors of length {dim}. "
            f"Give shape {shapes}, from the model that the index was built with."
        )
    descriptors = np.ascontiguousarray(array, dtype=np.float32)
    lengths = np.linalg.norm(descriptors.reshape(-1, dim).astype(np.float64), axis=1)
    if not np.isfinite(lengths).all():
        raise GlamError("A query contains NaN or infinite numbers. Describe its image again.")
    wrong = np.abs(lengths - 1) > UNIT_TOLERANCE
    if wrong.any():
        raise GlamError(
            f"A query has length {lengths[wrong][0]:.4g} instead of 1. Normalize it: `query / np.linalg.norm(query)`."
        )
    return descriptors
