"""Queries from what a caller of `glam.index.Index.search` gives: checked descriptors of unit length."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glam.errors import GlamError
from glam.index.rerank.base import Query
from glam.index.types import Descriptors

UNIT_TOLERANCE = 1e-3
"""How far the length of a query may be from 1. Rounding to float16 changes a length by at most half of this."""


def as_queries(queries: ArrayLike | Query | Sequence[Query], dim: int) -> list[Query]:
    """One query per descriptor.

    Args:
        queries: (dim,) or (q, dim), floating point, of unit length; or queries that hold (dim,) each.
        dim: length of a descriptor of the index.

    Raises:
        GlamError: they are no such descriptors; the message says what to do.
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
    """Descriptors as contiguous float32, (dim,) or with two axes (q, dim)."""
    shapes = f"({dim},)" if most_axes == 1 else f"({dim},) or (q, {dim})"
    try:
        array: NDArray[np.generic] = np.asarray(queries)
    except (TypeError, ValueError) as error:
        raise GlamError(f"the queries are no array of numbers; give one of shape {shapes}") from error
    if not np.issubdtype(array.dtype, np.floating):
        raise GlamError(f"queries of {array.dtype} are no descriptors; give float32 from `model.describe`")
    if not 1 <= array.ndim <= most_axes or array.shape[-1] != dim:
        raise GlamError(
            f"queries of shape {array.shape} cannot search an index of descriptors of length {dim}; "
            f"give shape {shapes}, from the model that the index was built with"
        )
    descriptors = np.ascontiguousarray(array, dtype=np.float32)
    lengths = np.linalg.norm(descriptors.reshape(-1, dim).astype(np.float64), axis=1)
    if not np.isfinite(lengths).all():
        raise GlamError("a query has numbers that are NaN or infinite; describe its image again")
    off = np.abs(lengths - 1) > UNIT_TOLERANCE
    if off.any():
        raise GlamError(
            f"a query has length {lengths[off][0]:.4g}, not 1, and scores are cosines; "
            "normalize it: `query / np.linalg.norm(query)`"
        )
    return descriptors
