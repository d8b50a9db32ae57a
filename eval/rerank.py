"""Reranking in an evaluation: each query's list is made once, before anything is known of what is right.

    queries --rerank_all--> first rows of each list --listed_scores, listed_keys--> ranks of the judged images

Images behind the list stay in the order of plain search.
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
"""Rows of the database, then of the distractors."""

LIST_LENGTH = 1_000
"""Images in a list that goes through a chain."""

CACHED_FEATURES = 5_000
"""Images whose local features stay in memory, 57 kB each."""

MAX_UNIT_ERROR = 1e-2
"""Largest difference of a descriptor's length from 1; float16 rounds it."""


def rerank_all(
    chain: Chain,
    queries: Sequence[Query],
    database_of: Callable[[int], Database],
    progress: Progress = no_progress,
) -> list[Rows]:
    """The reranked list of each query, at most `LIST_LENGTH` images.

    Args:
        chain: that reranks.
        queries: in order.
        database_of: row of a query to the database that it searches.
        progress: called with queries done and queries in all, as it goes.

    Raises:
        GlamError: a step lacks what it needs, such as images where there are only descriptors.
    """
    lists = []
    for row, query in enumerate(queries):
        lists.append(chain.search(query, database_of(row), LIST_LENGTH).rows)
        progress(row + 1, len(queries))
    return lists


def rerank_descriptors(
    chain: Chain, queries: Descriptors, parts: Sequence[Descriptors], progress: Progress
) -> list[Rows]:
    """The reranked list of each query where there are only descriptors.

    Args:
        chain: that reranks.
        queries: (q, dim).
        parts: the database, then the distractors, (n, dim) each; rows are counted through all parts.
        progress: called with queries done and queries in all, as it goes.

    Raises:
        GlamError: a step needs images, or the descriptors are not of unit length.
    """
    for what, descriptors in [("queries", queries), *(("images", part) for part in parts)]:
        check_unit_length(what, descriptors)
    database = MemoryDatabase(parts)
    rerank_queries = [Query(descriptor) for descriptor in queries.astype(np.float32)]
    return rerank_all(chain, rerank_queries, lambda _: database, progress)


def offset_progress(progress: Progress, before: int) -> Progress:
    """Progress of the second part of a task, after ``before`` items of the first part."""
    return lambda done, total: progress(before + done, before + total)


def local_features_of(
    files: Sequence[Path], boxes: Sequence[Box | None] | None = None
) -> Callable[[int], LocalFeatures]:
    """A function from the index of a file to its local features, with an LRU cache of `CACHED_FEATURES` images.

    It raises a `GlamError` for an index without a file: a distractor that came as a descriptor could never agree with
    a query, however much it looks like it.

    Args:
        files: of the images.
        boxes: per image x1, y1, x2, y2 in pixels of the upright image, or None for all of it.
    """

    @lru_cache(CACHED_FEATURES)
    def features(index: int) -> LocalFeatures:
        if index >= len(files):
            raise GlamError("distractors that are descriptors cannot be compared point by point; leave them out")
        return extract(read_image(files[index]), box=None if boxes is None else boxes[index])

    return features


def check_unit_length(what: str, descriptors: Descriptors) -> None:
    """Checks that (n, dim) descriptors can be averaged; NaN stands for an unreadable image.

    Raises:
        GlamError: one is not of unit length.
    """
    lengths = np.linalg.norm(descriptors.astype(np.float32), axis=1)
    if (np.abs(lengths - 1) > MAX_UNIT_ERROR).any():
        raise GlamError(f"reranking takes descriptors of unit length, and the {what} are not; normalize them first")


def listed_keys(keys: Keys, rows: Rows, listed: Rows) -> Keys:
    """Tie-break keys of rows, (n,), once the listed rows are ranked first, in their order."""
    ranks = list_ranks(rows, listed)
    moved = keys.copy()
    moved.real[ranks >= 0] = np.inf
    moved.imag[ranks >= 0] = -ranks[ranks >= 0]
    return moved


def listed_counts(
    above: NDArray[np.int64], keys: Keys, rows: Rows, listed: Rows, listed_before: Keys
) -> NDArray[np.int64]:
    """How many images are above each of n images once the listed rows are ranked first.

    Args:
        above: (n,) how many images were above each in the ranking without the list.
        keys: (n,) tie-break keys of the images in the ranking without the list.
        rows: (n,) rows of the images.
        listed: (m,) rows that are ranked first, in order.
        listed_before: (m,) tie-break keys of the listed rows in the ranking without the list.
    """
    ranks = list_ranks(rows, listed)
    overtaken = np.searchsorted(np.sort(listed_before), keys)  # listed images that were behind
    return np.where(ranks >= 0, ranks, above + overtaken)


def tie_break_keys_of_parts(query: NDArray[np.floating], parts: Sequence[Descriptors], rows: Rows) -> Keys:
    """Tie-break keys of rows, (n,), for a query, (dim,); rows are counted through all parts."""
    keys = np.empty(len(rows), dtype=np.complex128)
    first_row = 0
    for part in parts:
        here = (rows >= first_row) & (rows < first_row + len(part))
        keys[here] = tie_break_keys(query, part[rows[here] - first_row], rows[here])
        first_row += len(part)
    return keys


def list_ranks(rows: Rows, listed: Rows) -> Rows:
    """The rank of each row in a list, from 0; -1 if it is not in the list."""
    if not len(listed):
        return np.full(len(rows), -1, dtype=np.int64)
    order = np.argsort(listed)
    ranks = order[np.minimum(np.searchsorted(listed, rows, sorter=order), len(listed) - 1)]
    return np.where(listed[ranks] == rows, ranks, -1)
