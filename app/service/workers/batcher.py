"""Work of several requests, done together in a thread: a bounded queue, and a few milliseconds' wait for company.

    request --submit--> queue (FullError when it is full) --batches of one key--> work --> a future for each request

Threads, not tasks: the work holds a core for as long as it runs, and the queue is tied to no event loop.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Work = Callable[[Sequence[Item]], Sequence[Result | Exception]]
"""Makes a result of each item of a batch; an exception in the place of one is raised for that item alone."""


class FullError(Exception):
    """So many wait already that one more would wait too long."""


class ClosedError(Exception):
    """The service is stopping."""


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    """An item in the queue, since when (monotonic seconds), and what its result goes to."""

    item: Item
    key: Hashable
    since: float = field(default_factory=time.monotonic)
    future: "Future[Result]" = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Gathers items and works on those of one key together, those first that have waited longest, added up.

    Args:
        work: see `Work`; what it raises is raised for each item of the batch.
        name: of its threads.
        room: most items that wait.
        most: items of a batch.
        window: how long the oldest waits for others of its key, in seconds.
        threads: that work at the same time.
        key: items are worked on together only where it is equal.
        prepare: called once in each thread, first.
        report: called with the size of each batch.
    """

    def __init__(
        self,
        work: Work[Item, Result],
        *,
        name: str,
        room: int,
        most: int = 1,
        window: float = 0.0,
        threads: int = 1,
        key: Callable[[Item], Hashable] = lambda item: None,
        prepare: Callable[[], None] = lambda: None,
        report: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._key, self._prepare, self._report = work, key, prepare, report
        self._room, self._most, self._window = room, most, window
        self._queue: list[_Waiting[Item, Result]] = []
        self._changed = Condition()
        self._closed = False
        self._threads = [Thread(target=self._run, name=f"{name}-{i}", daemon=True) for i in range(threads)]
        self._started = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def submit(self, item: Item) -> "Future[Result]":
        """Puts an item into the queue; one whose future is cancelled before its turn is left out.

        Raises:
            FullError: too many wait.
            ClosedError: it was closed.
        """
        waiting: _Waiting[Item, Result] = _Waiting(item, self._key(item))
        with self._changed:
            if self._closed:
                raise ClosedError
            if len(self._queue) >= self._room:
                self._forget_cancelled()
                if len(self._queue) >= self._room:
                    raise FullError
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            self._queue.append(waiting)
            self._changed.notify_all()
        return waiting.future

    def close(self) -> None:
        """Takes nothing more, finishes what waits, and returns when its threads have ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._started:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        self._prepare()
        while batch := self._next_batch():
            self._report(len(batch))
            self._answer(batch)
            del batch  # nothing of it is held while the thread waits for the next

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Waits for a batch and takes it out of the queue; none once it is closed and empty."""
        with self._changed:
            while True:
                self._forget_cancelled()
                if not self._queue:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                batch = self._longest_waiting()
                left = batch[0].since + self._window - time.monotonic()
                if len(batch) < self._most and left > 0 and not self._closed:
                    self._changed.wait(left)
                    continue
                taken = set(map(id, batch))
                self._queue = [waiting for waiting in self._queue if id(waiting) not in taken]
                batch = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
                if batch:
                    return batch

    def _longest_waiting(self) -> list[_Waiting[Item, Result]]:
        """Of the batches there could be the one whose items have waited longest, added up: a large one goes before a
        small one, and yet none waits for ever."""
        groups: dict[Hashable, list[_Waiting[Item, Result]]] = {}
        for waiting in self._queue:
            group = groups.setdefault(waiting.key, [])
            if len(group) < self._most:
                group.append(waiting)
        now = time.monotonic()
        return max(groups.values(), key=lambda group: sum(now - waiting.since for waiting in group))

    def _forget_cancelled(self) -> None:
        self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]

    def _answer(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = self._work([waiting.item for waiting in batch])
        except BaseException as error:  # noqa: BLE001  (whoever waits gets it)
            for waiting in batch:
                waiting.future.set_exception(error)
            return
        for waiting, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
