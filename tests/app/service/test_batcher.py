"""The queue in which work of several requests waits."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from glam.app.service.workers.batcher import Batcher, BatchRule, ClosedError, FullError


class Gate:
    """Work that notes its batches, and waits until it may end."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.open = threading.Semaphore(0), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.open.wait(10)
        return [ValueError(str(item)) if item < 0 else 10 * item for item in items]


def results(futures: Sequence["Future[int]"]) -> list[int]:
    return [future.result(10) for future in futures]


def test_what_waits_is_worked_on_together_by_key_the_most_first() -> None:
    gate = Gate()
    batcher = Batcher(gate, name="test", capacity=10, rule=BatchRule(max_size=3, key=lambda item: item % 2))
    futures = [batcher.submit(0)]
    gate.begun.acquire()
    futures += [batcher.submit(item) for item in (1, 2, 3, 4, 6, 8)]
    gate.open.set()
    assert results(futures) == [0, 10, 20, 30, 40, 60, 80]
    assert gate.batches == [[0], [2, 4, 6], [1, 3], [8]]
    batcher.close()


def test_one_that_has_waited_long_goes_before_several_that_have_not() -> None:
    gate = Gate()
    batcher = Batcher(gate, name="test", capacity=10, rule=BatchRule(max_size=3, key=lambda item: item % 2))
    futures = [batcher.submit(0)]
    gate.begun.acquire()
    futures.append(batcher.submit(1))
    time.sleep(0.2)
    futures += [batcher.submit(item) for item in (2, 4)]
    gate.open.set()
    assert results(futures) == [0, 10, 20, 40]
    assert gate.batches == [[0], [1], [2, 4]]
    batcher.close()


def test_the_first_waits_a_moment_for_others_and_not_longer_than_needed() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, name="test", capacity=10, rule=BatchRule(max_size=2, window=5.0))
    began = time.monotonic()
    assert results([batcher.submit(1), batcher.submit(2)]) == [10, 20]
    assert time.monotonic() - began < 4
    assert gate.batches == [[1, 2]]
    batcher.close()


def test_more_than_the_room_are_refused_until_one_has_left() -> None:
    gate = Gate()
    batcher = Batcher(gate, name="test", capacity=2)
    futures = [batcher.submit(0)]
    gate.begun.acquire()
    futures += [batcher.submit(1), batcher.submit(2)]
    with pytest.raises(FullError):
        batcher.submit(3)
    futures.pop().cancel()
    futures.append(batcher.submit(4))
    gate.open.set()
    assert results(futures) == [0, 10, 40]
    assert [2] not in gate.batches
    batcher.close()


def test_an_error_goes_to_the_item_it_is_about() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, name="test", capacity=10, rule=BatchRule(max_size=2, window=5.0))
    bad, good = batcher.submit(-1), batcher.submit(1)
    assert good.result(10) == 10
    with pytest.raises(ValueError, match="-1"):
        bad.result(10)
    batcher.close()


def test_an_error_of_a_whole_batch_goes_to_each_and_the_thread_goes_on() -> None:
    def fail(items: Sequence[int]) -> list[int]:
        if 0 in items:
            raise ZeroDivisionError
        return list(items)

    batcher = Batcher(fail, name="test", capacity=10)
    with pytest.raises(ZeroDivisionError):
        batcher.submit(0).result(10)
    assert batcher.submit(1).result(10) == 1
    batcher.close()


def test_closing_finishes_what_waits_and_takes_nothing_more() -> None:
    gate = Gate()
    batcher = Batcher(gate, name="test", capacity=10)
    futures = [batcher.submit(item) for item in range(4)]
    gate.open.set()
    batcher.close()
    assert [future.done() for future in futures] == [True] * 4
    with pytest.raises(ClosedError):
        batcher.submit(5)


def test_a_coroutine_awaits_its_result_and_gives_up_its_place_when_cancelled() -> None:
    gate = Gate()
    batcher = Batcher(gate, name="test", capacity=2)

    async def ask() -> tuple[int, int]:
        first = asyncio.create_task(batcher.run(1))
        await asyncio.to_thread(gate.begun.acquire)
        gone, last = asyncio.create_task(batcher.run(2)), asyncio.create_task(batcher.run(3))
        await asyncio.sleep(0)
        with pytest.raises(FullError):
            await batcher.run(4)
        gone.cancel()
        await asyncio.wait([gone])
        gate.open.set()
        return await first, await last

    assert asyncio.run(ask()) == (10, 30)
    assert gate.batches == [[1], [3]]
    batcher.close()
    with pytest.raises(ClosedError):
        asyncio.run(batcher.run(5))
