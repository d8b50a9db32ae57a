"""What was used last, kept as long as there is room; used by many threads."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """The most recently used values.

    Args:
        capacity: that they fill together at most.
        size: what one fills; by default each the same, and ``capacity`` is their number.
    """

    def __init__(self, capacity: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self._capacity, self._size = capacity, size
        self._held = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """The value under ``key``, which becomes the most recent, or ``None``."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keeps ``value``; those unused for longest make room. One larger than the capacity is not kept."""
        with self._lock:
            if key in self._values:
                self._held -= self._size(self._values.pop(key))
            self._held += self._size(value)
            self._values[key] = value
            while self._held > self._capacity:
                _, dropped = self._values.popitem(last=False)
                self._held -= self._size(dropped)
