"""Batched search for concurrent requests.

request with a filter --one filter at a time, in a thread of its own--> mask, then as without a filter
request without re-ranking --batch of queries with the same index, filter, and threshold--> Index.search --> hits
request with re-ranking --one at a time, in another thread--> Index.search --> hits
"""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from glam.app.service import schemas
from glam.app.service.metrics import Metrics
from glam.app.service.middleware.errors import public_sentence
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher, BatchRule, lower_priority
from glam.errors import GlamError
from glam.images import Box
from glam.index import Hit, Index
from glam.index.rerank.base import Query
from glam.index.rerank.chain import Chain
from glam.index.types import Mask

BATCH = 32
"""Queries per batch; arbitrary."""


class BoxError(ValueError):
    """The box is empty or extends beyond the image. ``str(error)`` is a message for the client."""


class FilterError(ValueError):
    """The filter is invalid, or the index does not support the re-ranking steps.

    ``str(error)`` is a message for the client.
    """


@dataclass(frozen=True)
class SearchOptions:
    """Filter, re-ranking, and page of a search.

    Attributes:
        top: maximum number of hits.
        skip: number of top hits to skip.
        where: filter expression; None for all images.
        threshold: minimum score (cosine similarity, -1 to 1) of a hit; None for no minimum.
        chain: re-ranking steps; None for a plain search.
    """

    top: int
    skip: int = 0
    where: str | None = None
    threshold: float | None = None
    chain: Chain | None = None

    @property
    def needs_local_features(self) -> bool:
        """Whether a re-ranking step compares the local features of the query."""
        return self.chain is not None and self.chain.needs_local_features


class Page(NamedTuple):
    """One page of hits, and whether there are more hits."""

    hits: list[Hit]
    more: bool


@dataclass(frozen=True)
class _Search:
    """A search in the queue; ``count`` is the number of hits to request from the index.

    ``allowed`` is the mask of the filter; None for no filter.
    """

    index: Index
    query: Query
    options: SearchOptions
    count: int
    allowed: Mask | None

    def key(self) -> Hashable:
        """Searches with the same key share a batch."""
        return id(self.index), self.options.where, self.options.threshold


@dataclass(frozen=True)
class _Filter:
    """A filter expression in the queue."""

    index: Index
    where: str

    def key(self) -> Hashable:
        """Filters with the same key are evaluated once."""
        return id(self.index), self.where


class Searcher:
    """Searches an index in batches. The caller keeps the index open until the search ends."""

    def __init__(self, limits: ServiceLimits, metrics: Metrics) -> None:
        self._batcher: Batcher[_Search, list[Hit]] = Batcher(
            _run,
            name="search",
            capacity=limits.waiting,
            rule=BatchRule(max_size=limits.batch or BATCH, key=_Search.key),
            report=metrics.batch("search"),
        )
        # Re-ranking is slower. It has its own queue, so that it does not delay plain searches.
        self._reranker: Batcher[_Search, list[Hit]] = Batcher(
            _run,
            name="rerank",
            capacity=limits.waiting,
            report=metrics.batch("rerank"),
        )
        # A filter may take seconds. Without a queue of its own, it would delay searches that have none.
        self._filters: Batcher[_Filter, Mask] = Batcher(
            _evaluate,
            name="filter",
            capacity=limits.waiting,
            rule=BatchRule(max_size=limits.waiting, key=_Filter.key),
            prepare=lower_priority,
            report=metrics.batch("filter"),
        )
        metrics.watch_queue("filter", self._filters)
        metrics.watch_queue("search", self._batcher)
        metrics.watch_queue("rerank", self._reranker)

    async def search(self, index: Index, query: Query, options: SearchOptions, exclude: int | None = None) -> Page:
        """Search, and return one page of hits, best first.

        Args:
            index: open index.
            query: descriptor and local features of the query.
            options: filter, threshold, re-ranking steps, and page.
            exclude: image_id to leave out of the hits; None for none.

        Raises:
            FilterError: the filter is invalid, or the index does not support the re-ranking steps.
            FullError: the queue is full.
            ClosedError: the service is shutting down.
        """
        # One more to know whether there are further hits, and another one because an indexed query finds itself.
        end = options.skip + options.top
        allowed = None if options.where is None else await self._filters.run(_Filter(index, options.where))
        search = _Search(index, query, options, end + 1 + (exclude is not None), allowed)
        batcher = self._batcher if options.chain is None else self._reranker
        hits = await batcher.run(search)
        if exclude is not None:
            hits = [hit for hit in hits if hit.image_id != exclude]
        return Page(hits[options.skip : end], len(hits) > end)

    def close(self) -> None:
        """Finish the work in the queues."""
        self._filters.close()
        self._batcher.close()
        self._reranker.close()


def _evaluate(filters: Sequence[_Filter]) -> Sequence[Mask]:
    """Mask of each filter. All filters have the same key."""
    first = filters[0]
    try:
        return [first.index.filter_mask(first.where)] * len(filters)
    except GlamError as error:
        raise FilterError(public_sentence(error, first.index.path, first.index.root)) from error


def _run(searches: Sequence[_Search]) -> Sequence[list[Hit]]:
    """Hits of each search. All searches have the same key."""
    first, most = searches[0], max(search.count for search in searches)
    options = first.options
    queries = [search.query for search in searches]
    try:
        found = first.index.search(
            queries, most, where=first.allowed, threshold=options.threshold, rerank=options.chain
        )
    except GlamError as error:
        raise FilterError(public_sentence(error, first.index.path, first.index.root)) from error
    return [hits[: search.count] for search, hits in zip(searches, found, strict=True)]


class Stopwatch:
    """Measures time in milliseconds."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last call or the start."""
        before, self._last = self._last, time.perf_counter()
        return 1000 * (self._last - before)


def search_answer(query: schemas.QueryInfo, page: Page, skip: int, timing: schemas.Timing) -> schemas.SearchAnswer:
    """The answer to a search. The first hit of the page has rank ``skip + 1``."""
    results = [
        schemas.Result(rank=rank, score=hit.score, confidence=hit.confidence, image=schemas.Image.of(hit.entry))
        for rank, hit in enumerate(page.hits, start=skip + 1)
    ]
    return schemas.SearchAnswer(query=query, results=results, more=page.more, milliseconds=timing)


def check_box(box: Box, width: int, height: int) -> None:
    """Raise ``BoxError`` unless a box has at least one pixel per side and is inside an image of this size in pixels."""
    x1, y1, x2, y2 = box
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise BoxError("The box is empty. Send an x2 of at least x1 + 1 and a y2 of at least y1 + 1.")
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        raise BoxError(f"The box extends beyond the image. Send edges from 0 to {width} (x) and 0 to {height} (y).")
