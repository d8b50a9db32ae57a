"""Reranking in an evaluation: each query's list is made once, before anything is known of what is right.

    queries --rerank_all--> first images of each list --in_front, listed_keys--> ranks of the labeled images

Images behind the list stay in the order of plain search.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.tie_break import Descriptors, Keys, order_keys
from glam.images import Box, read_image
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.rerank.base import Database, Query
from glam.index.rerank.chain import Chain
from glam.index.rerank.memory_database import MemoryDatabase

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""

Rows = NDArray[np.int64]
"""Numbers of images, through the database and then the distractors."""

LISTED = 1_000
"""Images of a list that goes through a chain."""

FEATURES_KEPT = 5_000
"""Images whose local features are held in memory: 57 kB each."""

UNIT_ERROR = 1e-2
"""What the length of a descriptor may be off 1; of one in float16 it is."""


def rerank_all(
    chain: Chain,
    queries: Sequence[Query],
    database_of: Callable[[int], Database],
    progress: Progress = lambda done, total: None,
) -> list[Rows]:
    """The reranked list of each query, at most `LISTED` images.

    Args:
        chain: that reranks.
        queries: in order.
        database_of: what the query of this number is asked of.
        progress: called with queries done and queries in all, as it goes.

    Raises:
        GlamError: a step lacks what it needs, such as images where there are only descriptors.
    """
    lists = []
    for number, query in enumerate(queries):
        lists.append(chain.search(query, database_of(number), LISTED).rows)
        progress(number + 1, len(queries))
    return lists


def rerank_vectors(chain: Chain, queries: Descriptors, parts: Sequence[Descriptors], progress: Progress) -> list[Rows]:
    """The reranked list of each query where there are only descriptors.

    Args:
        chain: that reranks.
        queries: (q, dim).
        parts: the database and further images, (n, dim) each; images are numbered through all of them.
        progress: called with queries done and queries in all, as it goes.

    Raises:
        GlamError: a step needs images, or the descriptors are not of unit length.
    """
    for what, rows in [("queries", queries), *(("images", part) for part in parts)]:
        check_unit(what, rows)
    database = MemoryDatabase(parts)
    asked = [Query(row) for row in queries.astype(np.float32)]
    return rerank_all(chain, asked, lambda _: database, progress)


def count_on(progress: Progress, before: int) -> Progress:
    """Reports the second part of a task, after so many of the first."""
    return lambda done, total: progress(before + done, before + total)


def features_of(files: Sequence[Path], boxes: Sequence[Box | None] | None = None) -> Callable[[int], LocalFeatures]:
    """Gives the local features of the image of a number, or of its part in a box; the last many are remembered.

    It raises a `GlamError` for a number without a file: for a distractor that came as a descriptor, and could never
    agree with a query, however much it looks like it.
    """

    @lru_cache(FEATURES_KEPT)
    def features(number: int) -> LocalFeatures:
        if number >= len(files):
            raise GlamError("distractors that are descriptors cannot be compared point by point; leave them out")
        return extract(read_image(files[number]), box=None if boxes is None else boxes[number])

    return features


def check_unit(what: str, rows: Descriptors) -> None:
    """Makes sure that (n, dim) descriptors can be averaged; one that is NaN is no image.

    Raises:
        GlamError: one is not of unit length.
    """
    lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
    if (np.abs(lengths - 1) > UNIT_ERROR).any():
        raise GlamError(f"reranking takes descriptors of unit length, and the {what} are not; normalize them first")


def in_front(scores: NDArray[np.floating], listed: Rows) -> NDArray[np.float64]:
    """Scores, (n,), that rank the listed images first, in their order, and the others as before."""
    moved = np.asarray(scores, dtype=np.float64).copy()
    moved[listed] = np.nanmax(moved, initial=0) + np.arange(len(listed), 0, -1)
    return moved


def listed_keys(keys: Keys, numbers: Rows, listed: Rows) -> Keys:
    """The keys (`glam.eval.tie_break`) of images, (n,), when the listed images are ranked first, in their order."""
    place = places(numbers, listed)
    moved = keys.copy()
    moved.real[place >= 0] = np.inf
    moved.imag[place >= 0] = -place[place >= 0]
    return moved


def listed_counts(
    above: NDArray[np.int64], keys: Keys, numbers: Rows, listed: Rows, listed_before: Keys
) -> NDArray[np.int64]:
    """How many images are before each of some images when the listed ones are ranked first.

    Args:
        above: (n,) how many were before each.
        keys: (n,) theirs in that ranking.
        numbers: (n,) of the images.
        listed: (m,) the images ranked first, in order.
        listed_before: (m,) their keys in the ranking without the list.
    """
    place = places(numbers, listed)
    overtaken = np.searchsorted(np.sort(listed_before), keys)  # listed images that were behind
    return np.where(place >= 0, place, above + overtaken)


def keys_of(query: NDArray[np.floating], parts: Sequence[Descriptors], numbers: Rows) -> Keys:
    """The keys of images of several parts, (n,), for a query, (dim,); numbers go through all parts."""
    keys = np.empty(len(numbers), dtype=np.complex128)
    first = 0
    for part in parts:
        here = (numbers >= first) & (numbers < first + len(part))
        keys[here] = order_keys(query, part[numbers[here] - first], numbers[here])
        first += len(part)
    return keys


def places(numbers: Rows, listed: Rows) -> Rows:
    """The place of each image in a list, from 0; -1 where it is not in it."""
    if not len(listed):
        return np.full(len(numbers), -1, dtype=np.int64)
    order = np.argsort(listed)
    at = order[np.minimum(np.searchsorted(listed, numbers, sorter=order), len(listed) - 1)]
    return np.where(listed[at] == numbers, at, -1)
