"""State that endpoints share: for the lifetime of the app, and for one request.

create_app --creates once--> AppState --per request, with the index served at that moment--> Services --> endpoints
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from starlette.types import ASGIApp

from glam.app.service import schemas
from glam.app.service.image_files import IndexedFiles
from glam.app.service.live_index import IndexWatcher, LiveIndex, ServedIndex
from glam.app.service.metrics import Metrics
from glam.app.service.middleware.access_log import InFlightRequests
from glam.app.service.middleware.auth import Access
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher
from glam.app.service.workers.describe import Describer, ImageDescriptor
from glam.app.service.workers.search import Searcher, SearchOptions, search_answer
from glam.app.service.workers.write import Change, WriteQueue, write_error
from glam.errors import GlamError
from glam.images import Box
from glam.index import Index
from glam.index.rerank.base import Query
from glam.model import Model

T = TypeVar("T")

DISCONNECT_POLL_SECONDS = 0.25
"""Between two checks that the client is still connected; arbitrary."""

SERIAL_QUEUE_SIZE = 16
"""Tasks that may wait in `AppState.serial_queue`; arbitrary."""

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client disconnected; only the log shows it. The number is nginx's."""


class AppState:
    """State that lives as long as the app.

    Attributes:
        model, limits, access: the arguments of `glam.app.service.app.create_app`.
        model_name: name of the model without its path, because clients see it.
        metrics: counters for Prometheus.
        in_flight: requests that are being answered.
        live_index: the index being served, reloaded when it changes on disk.
        describer: computes descriptors, in batches.
        searcher: searches the index, in batches.
        write_queue: adds and removes images.
        serial_queue: runs other CPU-heavy tasks, one at a time.
        watcher: reloads ``live_index`` when another process writes to it.
    """

    def __init__(
        self, index: Index, model: Model, model_name: str, limits: ServiceLimits, access: Access, *, owns_index: bool
    ) -> None:
        self.model, self.model_name, self.limits, self.access = model, model_name, limits, access
        self.metrics, self.in_flight = Metrics(), InFlightRequests()
        self.live_index = LiveIndex(index, model, limits.thumbnail_cache_bytes, self.metrics, owns_index=owns_index)
        self.describer = Describer(model, index.size, index.scales, limits, self.metrics)
        self.searcher = Searcher(limits, self.metrics)
        self.write_queue = WriteQueue(index.path, self.live_index.reload, limits, self.metrics)
        self.watcher = IndexWatcher(self.live_index)
        self.serial_queue: Batcher[Callable[[], object], object] = Batcher(
            lambda work: [work[0]()], name="turn", capacity=SERIAL_QUEUE_SIZE, report=self.metrics.batch("turn")
        )
        self.metrics.watch_queue("turn", self.serial_queue)

    def close(self) -> None:
        """Finish the work in the queues, then close the index."""
        self.watcher.stop()
        for part in (self.describer, self.searcher, self.write_queue, self.serial_queue, self.live_index):
            part.close()


@dataclass(frozen=True)
class Services:
    """Services for the endpoints of one request, which sees one snapshot of the index.

    Attributes:
        app_state: shared with all other requests.
        served: the index being served when the request came in.
        request: the request.
    """

    app_state: AppState
    served: ServedIndex
    request: Request

    @property
    def index(self) -> Index:
        """The index."""
        return self.served.index

    @property
    def image_files(self) -> IndexedFiles:
        """The image files of the index."""
        return self.served.image_files

    @property
    def model(self) -> Model:
        """The model that the index was built with."""
        return self.app_state.model

    @property
    def model_name(self) -> str:
        """Name of the model without its path."""
        return self.app_state.model_name

    @property
    def limits(self) -> ServiceLimits:
        """Limits on uploads."""
        return self.app_state.limits

    async def run_serially(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread, one task at a time across all requests.

        Raises:
            FullError: the queue is full.
        """
        return await self.app_state.serial_queue.run(work)  # type: ignore[return-value]

    async def describe(
        self, read: Callable[[], bytes], box: Box | None, *, local_features: bool = False
    ) -> ImageDescriptor:
        """Describe an image; see `glam.app.service.workers.describe.Describer.describe`.

        Raises:
            ImageError: the image cannot be decoded.
            FullError: the queue is full.
        """
        return await self._until_disconnect(self.app_state.describer.describe(read, box, local_features=local_features))

    async def search(
        self,
        query_info: schemas.QueryInfo,
        query: Query,
        options: SearchOptions,
        describe_milliseconds: float,
        exclude: int | None = None,
    ) -> schemas.SearchAnswer:
        """Search with a descriptor.

        Args:
            query_info: facts about the query, for the answer.
            query: descriptor and local features.
            options: filter, threshold, chain and page of the results.
            describe_milliseconds: time spent describing the query.
            exclude: image_id of an image to leave out of the results, the query itself; None for none.

        Raises:
            FilterError: the filter is invalid, or the chain cannot be used on this index.
            FullError: the queue is full.
        """
        began = asyncio.get_running_loop().time()
        page = await self._until_disconnect(self.app_state.searcher.search(self.index, query, options, exclude))
        took = 1000 * (asyncio.get_running_loop().time() - began)
        return search_answer(
            query_info, page, options.skip, schemas.Timing(describe=describe_milliseconds, search=took)
        )

    async def change(self, change: Change) -> int:
        """Change the index, and return the image_id that the change is about. Later requests see the change.

        Raises:
            HTTPException: 409, another writer is at work; 503, the index cannot be written.
            FullError: the queue is full.
        """
        try:
            return await self.app_state.write_queue.run(change)
        except GlamError as error:
            raise write_error(error) from error

    async def _until_disconnect(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, and cancel it when the client disconnects, as the page does when it starts a new search."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait([task], timeout=DISCONNECT_POLL_SECONDS))[0]:
                if await self.request.is_disconnected():
                    raise HTTPException(CLIENT_CLOSED_REQUEST, "The client disconnected.")
            return task.result()
        finally:
            task.cancel()


async def get_services(request: Request) -> AsyncIterator[Services]:
    """Dependency: the services for one request, with the index as it is now."""
    app_state = get_app_state(request.app)
    with app_state.live_index.use() as served:
        yield Services(app_state, served, request)


def get_app_state(app: ASGIApp) -> AppState:
    """The state that all requests of an app share."""
    app_state: AppState = app.state.glam  # type: ignore[attr-defined]
    return app_state
