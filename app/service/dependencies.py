"""Dependencies of the endpoints: the state of the app, and the services for one request.

create_app --once--> AppState --per request, with the current index--> Services --> endpoint
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from starlette.types import ASGIApp

from glam.app.service import schemas
from glam.app.service.image_files import IndexedFiles
from glam.app.service.live_index import IndexWatcher, LiveIndex, ServedIndex
from glam.app.service.memory_budget import MemoryBudget, decoding_capacity
from glam.app.service.metrics import Metrics
from glam.app.service.middleware.access_log import InFlightRequests
from glam.app.service.middleware.auth import Access
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.decode import DecodePool, Plan
from glam.app.service.workers.describe import Describer, ImageDescriptor
from glam.app.service.workers.search import Searcher, SearchOptions, search_answer
from glam.app.service.workers.write import Change, WriteQueue, write_error
from glam.errors import GlamError
from glam.images import Box
from glam.index import Index
from glam.index.rerank.base import Query
from glam.model import Model

log = logging.getLogger("glam.service")

T = TypeVar("T")

DISCONNECT_POLL_SECONDS = 0.25
"""Interval between two checks that the client is still connected; arbitrary."""

UPLOAD_BYTES_PER_PIXEL = 40
"""Memory, with `BODY_SHARE`, that the service has by default for an upload of the largest size, see
`glam.app.service.decode_cost`."""

BODY_SHARE = 8
"""The bodies of requests may take 1/8 of the memory for images; arbitrary."""

CLIENT_CLOSED_REQUEST = 499
"""Status in the log for a request whose client has disconnected; the number is that of nginx."""


class AppState:
    """State that lives as long as the app.

    Attributes:
        model: model that the index was built with.
        model_name: name of the model without its path, because clients see it.
        limits: limits on requests and on memory.
        access: access rules.
        metrics: metrics for Prometheus.
        in_flight: in-flight requests.
        live_index: current index, reloaded when it changes on disk.
        body_budget: memory that the bodies of requests may take.
        decoders: decodes images, and runs other tasks that take long, one at a time.
        describer: computes descriptors, in batches.
        searcher: searches the index, in batches.
        write_queue: adds and removes images.
        watcher: reloads ``live_index`` when another process writes to it.
    """

    def __init__(
        self, index: Index, model: Model, model_name: str, limits: ServiceLimits, access: Access, *, owns_index: bool
    ) -> None:
        self.model, self.model_name, self.limits, self.access = model, model_name, limits, access
        self.metrics, self.in_flight = Metrics(), InFlightRequests()
        capacity = decoding_capacity(limits.memory_bytes, UPLOAD_BYTES_PER_PIXEL * limits.upload_pixels)
        self.body_budget = MemoryBudget(max(capacity // BODY_SHARE, limits.upload_bytes))
        self.decoders = DecodePool(MemoryBudget(capacity - capacity // BODY_SHARE), limits, self.metrics)
        self.live_index = LiveIndex(
            index, model, limits.thumbnail_cache_bytes, self.metrics, self.decoders.reserve, owns_index=owns_index
        )
        self.describer = Describer(model, index.size, index.scales, limits, self.metrics, self.decoders)
        self.searcher = Searcher(limits, self.metrics)
        self.write_queue = WriteQueue(index.path, self.live_index.reload, limits, self.metrics)
        self.watcher = IndexWatcher(self.live_index)

    def close(self) -> None:
        """Finish the work in the queues, and close the index."""
        self.watcher.stop()
        for part in (self.decoders, self.describer, self.searcher, self.write_queue, self.live_index):
            part.close()


@dataclass(frozen=True)
class Services:
    """Services for one request, which uses one snapshot of the index.

    Attributes:
        app_state: state that all requests share.
        served: snapshot of the index at the start of the request.
        request: the request.
    """

    app_state: AppState
    served: ServedIndex
    request: Request

    @property
    def index(self) -> Index:
        """Snapshot of the index."""
        return self.served.index

    @property
    def image_files(self) -> IndexedFiles:
        """Image files of the index."""
        return self.served.image_files

    @property
    def model(self) -> Model:
        """Model that the index was built with."""
        return self.app_state.model

    @property
    def model_name(self) -> str:
        """Name of the model without its path."""
        return self.app_state.model_name

    @property
    def limits(self) -> ServiceLimits:
        """Limits on requests and on memory."""
        return self.app_state.limits

    async def decode(self, plan: Plan[T]) -> T:
        """Decode an image; see `glam.app.service.workers.decode.DecodePool.run`.

        Raises:
            FullError: a queue is full.
            MemoryFullError: there is no memory for the image.
        """
        return await self._until_disconnect(self.app_state.decoders.run(plan))

    async def describe(
        self, read: Callable[[], bytes], box: Box | None, *, local_features: bool = False
    ) -> ImageDescriptor:
        """Compute the descriptor of an image; see `glam.app.service.workers.describe.Describer.describe`.

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
            query_info: facts about the query for the answer.
            query: descriptor and local features of the query.
            options: filter, threshold, re-ranking steps, and page.
            describe_milliseconds: time to describe the query, for the answer.
            exclude: image_id to leave out of the results, which is the query itself; None for none.

        Raises:
            FilterError: the filter is invalid, or the index does not support the re-ranking steps.
            FullError: the queue is full.
        """
        began = asyncio.get_running_loop().time()
        page = await self._until_disconnect(self.app_state.searcher.search(self.index, query, options, exclude))
        took = 1000 * (asyncio.get_running_loop().time() - began)
        return search_answer(
            query_info, page, options.skip, schemas.Timing(describe=describe_milliseconds, search=took)
        )

    async def change(self, change: Change) -> int:
        """Change the index, and return the image_id of the changed image. Later requests see the change.

        Raises:
            HTTPException: 409, another program is writing to the index; 503, the index cannot be written.
            FullError: the queue is full.
        """
        try:
            return await self.app_state.write_queue.run(change)
        except GlamError as error:
            log.warning("index not changed", extra={"facts": {"reason": str(error)}})
            raise write_error(error, self.index.path, self.index.root) from error

    async def _until_disconnect(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, but cancel it if the client disconnects, as the page does when it starts another search."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait([task], timeout=DISCONNECT_POLL_SECONDS))[0]:
                if await self.request.is_disconnected():
                    raise HTTPException(CLIENT_CLOSED_REQUEST, "The client disconnected.")
            return task.result()
        finally:
            task.cancel()


async def get_services(request: Request) -> AsyncIterator[Services]:
    """Dependency: the services for one request, with the current index."""
    app_state = get_app_state(request.app)
    with app_state.live_index.use() as served:
        yield Services(app_state, served, request)


def get_app_state(app: ASGIApp) -> AppState:
    """The state that all requests of an app share."""
    app_state: AppState = app.state.glam  # type: ignore[attr-defined]
    return app_state
