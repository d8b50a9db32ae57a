"""Re-ranking in evaluations: each query is re-ranked once, without access to the ground truth.

    queries --rerank_all--> first rows of each result --listed_counts, listed_keys--> ranks of the judged images

Images after the re-ranked list keep the order of plain search.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys
from glam.images import Box, read_image
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.rerank.base import Database, Query
from glam.index.rerank.chain import Chain
from glam.index.rerank.memory_database import MemoryDatabase
from glam.progress import Progress, no_progress

Rows = NDArray[np.int64]
"""Rows of database images; the rows of distractors follow those of the database."""

LIST_LENGTH = 1_000
"""Images per query that are re-ranked (arbitrary)."""

CACHED_FEATURES = 5_000
"""Images whose local features stay in memory, at 57 kB each (arbitrary)."""

MAX_UNIT_ERROR = 1e-2
"""Largest difference of a descriptor's length from 1, which allows for the rounding of float16."""


def rerank_all(
    chain: Chain,
    queries: Sequence[Query],
    database_of: Callable[[int], Database],
    progress: Progress = no_progress,
) -> list[Rows]:
    """Searches and re-ranks for each query.

    Args:
        chain: the steps of re-ranking.
        queries: (q,) queries.
        database_of: returns the database to search for the query at an index.
        progress: called with queries done and total queries.

    Returns:
        For each query, at most `LIST_LENGTH` rows, best first.

    Raises:
        GlamError: a step lacks its input, such as images if only descriptors are given.
    """
    lists = []
    for index, query in enumerate(queries):
        lists.append(chain.search(query, database_of(index), LIST_LENGTH).rows)
        progress(index + 1, len(queries))
    return lists


def rerank_descriptors(
    chain: Chain, queries: Descriptors, parts: Sequence[Descriptors], progress: Progress
) -> list[Rows]:
    """Searches and re-ranks for each query, given only descriptors.

    Args:
        chain: the steps of re-ranking.
        queries: (q, dim) descriptors of the queries.
        parts: (n, dim) descriptors of the database, then of each set of distractors; rows continue from part to part.
        progress: called with queries done and total queries.

    Returns:
        For each query, at most `LIST_LENGTH` rows, best first.

    Raises:
        GlamError: a step needs images, or the descriptors do not have unit length.
    """
    for what, descriptors in [("queries", queries), *(("images", part) for part in parts)]:
        check_unit_length(what, descriptors)
    database = MemoryDatabase(parts)
    rerank_queries = [Query(descriptor) for descriptor in queries.astype(np.float32)]
    return rerank_all(chain, rerank_queries, lambda _: database, progress)


def offset_progress(progress: Progress, before: int) -> Progress:
    """Wraps a progress function for the second part of a task, after ``before`` items of the first part."""
    return lambda done, total: progress(before + done, before + total)


def local_features_of(
    files: Sequence[Path], boxes: Sequence[Box | None] | None = None
) -> Callable[[int], LocalFeatures]:
    """Builds a function from a row to the local features of its image, with an LRU cache of `CACHED_FEATURES` images.

    The function raises a `GlamError` for a row without a file. A distractor that is only a descriptor can never match a
    query, so accepting it would overstate the scores.

    Args:
        files: file of the image of each row.
        boxes: for each row, x1, y1, x2, y2 of a region in pixels of the upright image, or None for the whole image.
    """

    @lru_cache(CACHED_FEATURES)
    def features(row: int) -> LocalFeatures:
        if row >= len(files):
            raise GlamError(
                "Distractors that are only descriptors have no local features to match. "
                "Leave out the distractors, or choose a re-ranking step that needs no local features."
            )
        return extract(read_image(files[row]), box=None if boxes is None else boxes[row])

    return features


def check_unit_length(what: str, descriptors: Descriptors) -> None:
    """Checks that descriptors have unit length, which re-ranking requires. NaN, for an unreadable image, is allowed.

    Args:
        what: what the descriptors are of, for the error message, such as ``queries``.
        descriptors: (n, dim) descriptors.

    Raises:
        GlamError: a descriptor does not have unit length.
    """
    lengths = np.linalg.norm(descriptors.astype(np.float32), axis=1)
    if (np.abs(lengths - 1) > MAX_UNIT_ERROR).any():
        raise GlamError(
            f"The descriptors of the {what} do not have unit length, which re-ranking requires. "
            "Divide each one by its Euclidean norm."
        )


def listed_keys(keys: Keys, rows: Rows, listed: Rows) -> Keys:
    """Changes tie-break keys so that a list is ranked first, in its order.

    Args:
        keys: (n,) tie-break keys of some images.
        rows: (n,) rows of these images.
        listed: (m,) rows that are ranked first, best first.

    Returns:
        (n,) tie-break keys.
    """
    ranks = list_ranks(rows, listed)
    moved = keys.copy()
    moved.real[ranks >= 0] = np.inf
    moved.imag[ranks >= 0] = -ranks[ranks >= 0]
    return moved


def listed_counts(
    above: NDArray[np.int64], keys: Keys, rows: Rows, listed: Rows, listed_before: Keys
) -> NDArray[np.int64]:
    """Counts the images above each of n images after a list is ranked first, in its order.

    Args:
        above: (n,) number of images above each image in the ranking without the list.
        keys: (n,) tie-break keys of the images in the ranking without the list.
        rows: (n,) rows of the images.
        listed: (m,) rows that are ranked first, best first.
        listed_before: (m,) tie-break keys of the listed rows in the ranking without the list.

    Returns:
        (n,) number of images above each image.
    """
    ranks = list_ranks(rows, listed)
    overtaken = np.searchsorted(np.sort(listed_before), keys)  # listed images that were below the image
    return np.where(ranks >= 0, ranks, above + overtaken)


def tie_break_keys_of_parts(query: NDArray[np.floating], parts: Sequence[Descriptors], rows: Rows) -> Keys:
    """Computes the tie-break keys of some rows for a query.

    Args:
        query: (dim,) descriptor of the query.
        parts: (m, dim) descriptors of the database, then of each set of distractors.
        rows: (n,) rows, which continue from part to part.

    Returns:
        (n,) tie-break keys.
    """
    keys = np.empty(len(rows), dtype=np.complex128)
    first_row = 0
    for part in parts:
        here = (rows >= first_row) & (rows < first_row + len(part))
        keys[here] = tie_break_keys(query, part[rows[here] - first_row], rows[here])
        first_row += len(part)
    return keys


def list_ranks(rows: Rows, listed: Rows) -> Rows:
    """Finds the rank of each row in a list.

    Args:
        rows: (n,) rows to look up.
        listed: (m,) rows of the list, best first.

    Returns:
        (n,) ranks, from 0; -1 for a row that is not in the list.
    """
    if not len(listed):
        return np.full(len(rows), -1, dtype=np.int64)
    order = np.argsort(listed)
    ranks = order[np.minimum(np.searchsorted(listed, rows, sorter=order), len(listed) - 1)]
    return np.where(listed[ranks] == rows, ranks, -1)
