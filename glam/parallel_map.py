"""`map` in threads that work ahead of the consumer, results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Result]:
    """What a function makes of each item, in the order of the items; an error comes in its place.

    Args:
        function: runs in several threads at once.
        items: may be endless.
        threads: how many.
        ahead: most items that are begun before the first of them is asked for.
        name: of the threads.
    """
    queue: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                queue.append(pool.submit(function, item))
                if len(queue) >= ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()
