"""Dynamic batching: a bounded queue, and worker threads that process several requests together.

    request --run--> queue (FullError if full) --batches of items with the same key--> work --> one future per request

It uses threads instead of asyncio tasks because the work is CPU-bound.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread, get_native_id
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Work = Callable[[Sequence[Item]], Sequence[Result | Exception]]
"""Computes one result per item of a batch. An exception in place of a result is raised for that item only."""


LOW_PRIORITY = 10
"""Nice value of threads whose work takes long: a tenth of the processor time of others. Arbitrary."""

CLOSE_SECONDS = 5.0
"""Longest wait for the threads of a queue at shutdown; arbitrary."""


class FullError(Exception):
    """The queue is full."""


class ClosedError(Exception):
    """The service is stopping."""


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    """An item in the queue, its arrival time (monotonic, in seconds), and the future of its result."""

    item: Item
    key: Hashable
    since: float = field(default_factory=time.monotonic)
    future: "Future[Result]" = field(default_factory=Future)


@dataclass(frozen=True)
class BatchRule(Generic[Item]):
    """Which items of a queue share a batch.

    Attributes:
        max_size: maximum number of items in a batch.
        window: time in seconds that the oldest item waits for others with its key.
        key: function from an item to its key; only items with equal keys share a batch.
    """

    max_size: int = 1
    window: float = 0.0
    key: Callable[[Item], Hashable] = lambda item: None


ONE_BY_ONE: BatchRule[Any] = BatchRule()
"""Every item is a batch of its own."""


def lower_priority() -> None:
    """Let the other threads of the process go first on a busy machine. Only Linux has priorities per thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), LOW_PRIORITY)


class Batcher(Generic[Item, Result]):
    """Groups items by key, and processes the group with the longest total waiting time first.

    Args:
        work: processes a batch, see `Work`; an exception that it raises is raised for each item of the batch.
        name: prefix of the thread names.
        capacity: maximum length of the queue.
        rule: which items share a batch.
        threads: number of threads.
        prepare: called once per thread before any work.
        report: called with the size of each batch.
    """

    def __init__(
        self,
        work: Work[Item, Result],
        *,
        name: str,
        capacity: int,
        rule: BatchRule[Item] = ONE_BY_ONE,
        threads: int = 1,
        prepare: Callable[[], None] = lambda: None,
        report: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._prepare, self._report = work, prepare, report
        self._capacity, self._rule = capacity, rule
        self._queue: list[_Waiting[Item, Result]] = []
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._run, name=f"{name}-{i}", daemon=True) for i in range(threads)]
        self._started = False

    def __len__(self) -> int:
        """Number of items in the queue."""
        return len(self._queue)

    def submit(self, item: Item) -> "Future[Result]":
        """Put an item into the queue. Canceling its future removes it, unless its batch has begun.

        Raises:
            FullError: the queue is full.
            ClosedError: the queue is closed.
        """
        waiting: _Waiting[Item, Result] = _Waiting(item, self._rule.key(item))
        with self._changed:
            if self._closed:
                raise ClosedError
            if len(self._queue) >= self._capacity:
                self._drop_cancelled()
                if len(self._queue) >= self._capacity:
                    raise FullError
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            self._queue.append(waiting)
            self._changed.notify_all()
        return waiting.future

    async def run(self, item: Item) -> Result:
        """Put an item into the queue, and await its result. Canceling removes it, unless its batch has begun.

        Raises:
            FullError: the queue is full.
            ClosedError: the queue is closed.
        """
        return await asyncio.wrap_future(self.submit(item))

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Reject new items, finish those in the queue, and return after the threads have ended, or after ``seconds``.

        The threads are daemons: what runs longer ends with the process.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._started:
            end = time.monotonic() + seconds
            for thread in self._threads:
                thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        self._prepare()
        while batch := self._next_batch():
            self._report(len(batch))
            self._answer(batch)
            del batch  # frees its memory while the thread waits for the next batch

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Wait for a batch and remove it from the queue; empty if the queue is closed and empty."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if not self._queue:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                batch = self._longest_waiting()
                left = batch[0].since + self._rule.window - time.monotonic()
                if len(batch) < self._rule.max_size and left > 0 and not self._closed:
                    self._changed.wait(left)
                    continue
                taken = set(map(id, batch))
                self._queue = [waiting for waiting in self._queue if id(waiting) not in taken]
                batch = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
                if batch:
                    return batch

    def _longest_waiting(self) -> list[_Waiting[Item, Result]]:
        """The batch with the longest total waiting time: large batches are preferred, but none starves."""
        groups: dict[Hashable, list[_Waiting[Item, Result]]] = {}
        for waiting in self._queue:
            group = groups.setdefault(waiting.key, [])
            if len(group) < self._rule.max_size:
                group.append(waiting)
        now = time.monotonic()
        return max(groups.values(), key=lambda group: sum(now - waiting.since for waiting in group))

    def _drop_cancelled(self) -> None:
        self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]

    def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = self._work([waiting.item for waiting in batch])
        except BaseException as error:  # noqa: BLE001  (raised for each item)
            for waiting in batch:
                waiting.future.set_exception(error)
            return
        for waiting, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
