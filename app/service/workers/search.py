"""Searching the index with the descriptors of several requests at a time, and the rows of an answer.

request --submit--> queries of one index, condition and threshold --> one Index.search --> the hits of each
        --submit, to be reranked--> one at a time, in a thread of its own --Index.search_reranked--> its hits
"""

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from glam.app.service import schemas
from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher
from glam.errors import GlamError
from glam.images import Box
from glam.index import Entry, Hit, Index
from glam.index.rerank.base import Query
from glam.index.rerank.chain import Chain

BATCH = 32


class BoxError(ValueError):
    """A box that is empty or reaches outside its image. ``str(error)`` is one sentence."""


class ConditionError(ValueError):
    """A condition on the images, or a chain, that cannot be used. ``str(error)`` is one sentence."""


@dataclass(frozen=True)
class SearchOptions:
    """Which results are wanted.

    Attributes:
        top: how many.
        skip: how many of the best are left out.
        where: condition on the images.
        threshold: least cosine.
        chain: that puts them in order; None for that of their cosines.
    """

    top: int
    skip: int = 0
    where: str | None = None
    threshold: float | None = None
    chain: Chain | None = None


class Page(NamedTuple):
    """The results that were wanted, and whether there are more."""

    hits: list[Hit]
    more: bool


@dataclass(frozen=True)
class _Search:
    """A query of the queue: where, with what, and the condition, the threshold and number of its results."""

    index: Index
    query: Query
    wanted: SearchOptions
    count: int

    def key(self) -> Hashable:
        """What searches must share to be done in one."""
        return id(self.index), self.wanted.where, self.wanted.threshold


class Searcher:
    """Searches indexes. The caller keeps an index open for as long as it waits for its answer."""

    def __init__(self, limits: ServiceLimits, metrics: Metrics) -> None:
        self._batcher: Batcher[_Search, list[Hit]] = Batcher(
            _run,
            name="search",
            room=limits.waiting,
            most=limits.batch or BATCH,
            key=_Search.key,
            report=metrics.batch("search"),
        )
        # What takes longer has a queue of its own, so that plain searches need not wait for it.
        self._reranker: Batcher[_Search, list[Hit]] = Batcher(
            lambda searches: [_reranked(search) for search in searches],
            name="rerank",
            room=limits.waiting,
            report=metrics.batch("rerank"),
        )
        metrics.watch_queue("search", self._batcher)
        metrics.watch_queue("rerank", self._reranker)

    async def search(self, index: Index, query: Query, wanted: SearchOptions, itself: Entry | None = None) -> Page:
        """The nearest images, best first, ranked from 1 without ``itself``.

        Raises:
            ConditionError: the condition cannot be used, or the chain not on this index.
            FullError, ClosedError: see `glam.app.service.workers.batcher`.
        """
        # One more tells whether there are more, and one because an indexed query finds itself.
        most = wanted.skip + wanted.top
        search = _Search(index, query, wanted, most + 1 + (itself is not None))
        batcher = self._batcher if wanted.chain is None else self._reranker
        hits = await asyncio.wrap_future(batcher.submit(search))
        if itself is not None:
            hits = [hit for hit in hits if hit.image_id != itself.image_id]
        return Page(hits[wanted.skip : most], len(hits) > most)

    def close(self) -> None:
        """Finishes what waits."""
        self._batcher.close()
        self._reranker.close()


def _run(searches: Sequence[_Search]) -> Sequence[list[Hit]]:
    """The hits of searches that share a key."""
    first, most = searches[0], max(search.count for search in searches)
    descriptors = np.stack([search.query.descriptor for search in searches])
    where, threshold = first.wanted.where, first.wanted.threshold
    try:
        found = first.index.search(descriptors, k=most, where=where, threshold=threshold)
    except GlamError as error:
        raise ConditionError(sentence(error)) from error
    return [hits[: search.count] for search, hits in zip(searches, found, strict=True)]


def _reranked(search: _Search) -> list[Hit]:
    """The hits of a search whose results go through a chain."""
    wanted = search.wanted
    assert wanted.chain is not None
    try:
        return search.index.search_reranked(
            search.query, wanted.chain, search.count, where=wanted.where, threshold=wanted.threshold
        )
    except GlamError as error:
        raise ConditionError(sentence(error)) from error


class Clock:
    """Measures what is done between two looks, in milliseconds."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        before, self._last = self._last, time.perf_counter()
        return 1000 * (self._last - before)


def answer(query: schemas.QueryInfo, page: Page, skip: int, timing: schemas.Timing) -> schemas.SearchAnswer:
    """The answer with these hits; they are ranked anew, after those that were skipped."""
    results = [
        schemas.Result(rank=rank, score=hit.score, confidence=hit.confidence, image=schemas.Image.of(hit.entry))
        for rank, hit in enumerate(page.hits, start=skip + 1)
    ]
    return schemas.SearchAnswer(query=query, results=results, more=page.more, milliseconds=timing)


def check_box(box: Box, width: int, height: int) -> None:
    """Raise ``BoxError`` unless the box holds at least one pixel each way and lies within ``width`` by ``height``."""
    x1, y1, x2, y2 = box
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise BoxError("The box is empty: x2 must be at least x1 + 1, and y2 at least y1 + 1.")
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        raise BoxError(f"The box reaches outside the image, which has {width} by {height} pixels.")


def sentence(error: Exception) -> str:
    """What an error says, as a sentence."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
