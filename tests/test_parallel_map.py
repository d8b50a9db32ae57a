"""Ordered parallel map: order, bound of the look-ahead, errors, and early end."""

import threading
import time
from collections.abc import Iterator

import pytest

from glam.parallel_map import parallel_map


def test_results_have_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 5 == 0 else 0)
        return item * item

    squares = parallel_map(slow_first, range(43), threads=4, ahead=8, name="test")
    assert list(squares) == [item * item for item in range(43)]


@pytest.mark.parametrize("ahead", [1, 2, 5, 8])
def test_look_ahead_is_bounded(ahead: int) -> None:
    submitted = 0

    def items() -> Iterator[int]:
        nonlocal submitted
        while True:
            submitted += 1
            yield submitted

    results = parallel_map(lambda item: item, items(), threads=2, ahead=ahead, name="test")
    for consumed in range(1, 40):
        assert next(results) == consumed
        assert submitted - (consumed - 1) <= ahead
    results.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_when_its_item_is_due() -> None:
    results = parallel_map(lambda item: 1 // (3 - item), range(6), threads=2, ahead=4, name="test")
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_skips_items_that_have_not_started() -> None:
    started: list[int] = []
    release = threading.Event()

    def wait(item: int) -> int:
        started.append(item)
        if item:
            release.wait(10)
        return item

    results = parallel_map(wait, range(100), threads=1, ahead=20, name="test")
    assert next(results) == 0
    threading.Timer(0.1, release.set).start()
    results.close()  # type: ignore[attr-defined]
    assert len(started) <= 3
