"""What endpoints share: for as long as the app runs, and for one request.

create_app --makes one--> Shared --for each request, with the index of its moment--> Services --> endpoints
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import HTTPException, Request
from starlette.types import ASGIApp

from glam.app.service import schemas
from glam.app.service.image_files import IndexedFiles
from glam.app.service.live_index import IndexWatcher, LiveIndex, ServedIndex
from glam.app.service.metrics import Metrics
from glam.app.service.middleware.access_log import Running
from glam.app.service.middleware.auth import Access
from glam.app.service.middleware.errors import too_many
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher, ClosedError, FullError
from glam.app.service.workers.describe import DescribedUpload, Describer
from glam.app.service.workers.search import Searcher, SearchOptions, answer
from glam.app.service.workers.write import Change, WriteQueue, refusal
from glam.errors import GlamError, ImageError
from glam.images import Box
from glam.index import Entry, Index
from glam.index.rerank.base import Query
from glam.model import Model

T = TypeVar("T")

GONE_SECONDS = 0.25
"""Between two looks whether a client still waits."""

TURNS = 16
"""Most pieces of other work that wait for their turn."""

CLIENT_GONE = 499
"""A status that nobody gets to see, but the log."""


class Shared:
    """What lives as long as the app.

    Attributes:
        model, limits, access: as given to `glam.app.service.app.create_app`.
        model_name: to be shown: the page may be open to others, so it is not the path.
        metrics, running: of the app.
        current: the index.
        describer, searcher, changes: do what requests want, several at a time.
        turns: for other work, one piece at a time.
    """

    def __init__(
        self, index: Index, model: Model, model_name: str, limits: ServiceLimits, access: Access, *, owns_index: bool
    ) -> None:
        self.model, self.model_name, self.limits, self.access = model, model_name, limits, access
        self.metrics, self.running = Metrics(), Running()
        self.current = LiveIndex(index, model, limits.thumbnail_cache_bytes, self.metrics, ours=owns_index)
        self.describer = Describer(model, index.size, index.scales, limits, self.metrics)
        self.searcher = Searcher(limits, self.metrics)
        self.changes = WriteQueue(index.path, self.current.renew, limits, self.metrics)
        self.watcher = IndexWatcher(self.current)
        self.turns: Batcher[Callable[[], object], object] = Batcher(
            lambda work: [work[0]()], name="turn", room=TURNS, report=self.metrics.batch("turn")
        )
        self.metrics.watch_queue("turn", self.turns)

    def close(self) -> None:
        """Finishes what waits, and closes the index."""
        self.watcher.stop()
        for part in (self.describer, self.searcher, self.changes, self.turns, self.current):
            part.close()


@dataclass(frozen=True)
class Services:
    """What the endpoints get: everything of one request is about the index as it was when the request came.

    Attributes:
        shared: with all other requests.
        serving: the index of its moment.
        request: itself.
    """

    shared: Shared
    serving: ServedIndex
    request: Request

    @property
    def index(self) -> Index:
        """The index."""
        return self.serving.index

    @property
    def photographs(self) -> IndexedFiles:
        """The files of the index."""
        return self.serving.photographs

    @property
    def model(self) -> Model:
        """The model that described the index."""
        return self.shared.model

    @property
    def model_name(self) -> str:
        """Its name, without a path."""
        return self.shared.model_name

    @property
    def limits(self) -> ServiceLimits:
        """What an upload may be."""
        return self.shared.limits

    async def in_model_turn(self, work: Callable[[], T]) -> T:
        """Runs ``work`` in a thread, when no other such work is running.

        Raises:
            HTTPException: 503, too many wait.
        """
        return await accepted(lambda: asyncio.wrap_future(self.shared.turns.submit(work)))  # type: ignore[arg-type]

    async def describe(
        self, read: Callable[[], bytes], box: Box | None, check: Callable[[bytes], object] = lambda data: None
    ) -> DescribedUpload:
        """Describes a photograph; see `glam.app.service.workers.describe.Describer.describe`.

        Raises:
            HTTPException: 422, it cannot be read; 503, too many wait.
        """
        try:
            return await self._while_asked(self.shared.describer.describe(read, box, check))
        except ImageError as error:
            raise HTTPException(422, f"The image cannot be read: {error.reason}.") from error

    async def search(
        self,
        told: schemas.QueryInfo,
        query: Query,
        wanted: SearchOptions,
        milliseconds: float,
        itself: Entry | None = None,
    ) -> schemas.SearchAnswer:
        """Searches with a descriptor.

        Args:
            told: what the answer says of the query.
            query: what is searched with.
            wanted: which results.
            milliseconds: that describing it took.
            itself: an image that is not to be found.

        Raises:
            ConditionError: the condition cannot be used, or the chain not on this index.
            HTTPException: 503, too many wait.
        """
        began = asyncio.get_running_loop().time()
        page = await self._while_asked(self.shared.searcher.search(self.index, query, wanted, itself))
        took = 1000 * (asyncio.get_running_loop().time() - began)
        return answer(told, page, wanted.skip, schemas.Timing(describe=milliseconds, search=took))

    async def change(self, change: Change) -> int:
        """Changes the index; what is done when it returns is in the index that later requests see.

        Raises:
            HTTPException: 409, another writer is at work; 503, it cannot be written, or too many wait.
        """
        try:
            return await accepted(lambda: asyncio.wrap_future(self.shared.changes.submit(change)))
        except GlamError as error:
            raise refusal(error) from error

    async def _while_asked(self, work: Awaitable[T]) -> T:
        """Waits for work, and gives it up when the client has gone: a page drops a question when it has another."""
        task = asyncio.ensure_future(accepted(lambda: work))
        try:
            while not (await asyncio.wait([task], timeout=GONE_SECONDS))[0]:
                if await self.request.is_disconnected():
                    raise HTTPException(CLIENT_GONE, "The client has gone.")
            return task.result()
        finally:
            task.cancel()


async def accepted(work: Callable[[], Awaitable[T]]) -> T:
    """The result of work that goes through a queue.

    Raises:
        HTTPException: 503, the queue is full, or the service is stopping.
    """
    try:
        return await work()
    except FullError as error:
        raise too_many() from error
    except ClosedError as error:
        raise HTTPException(503, "The service is stopping.", headers={"Retry-After": "5"}) from error


async def services_of(request: Request) -> AsyncIterator[Services]:
    """The services for one request, with the index as it is now."""
    shared: Shared = request.app.state.shared
    with shared.current.use() as serving:
        yield Services(shared, serving, request)


def shared_of(app: ASGIApp) -> Shared:
    """What the requests of an app share."""
    shared: Shared = app.state.shared  # type: ignore[attr-defined]
    return shared
