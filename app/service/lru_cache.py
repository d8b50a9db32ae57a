"""A thread-safe LRU cache."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """A cache that evicts the least recently used values.

    Args:
        capacity: maximum total size of the values, in the unit of ``size``.
        size: function that returns the size of a value; by default 1, so that ``capacity`` counts values.
    """

    def __init__(self, capacity: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self._capacity, self._size = capacity, size
        self._total = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """The value of ``key``, which becomes the most recently used one; None if there is none."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Store a value, and evict old ones to make room. A value larger than the capacity is not stored."""
        with self._lock:
            if key in self._values:
                self._total -= self._size(self._values.pop(key))
            self._total += self._size(value)
            self._values[key] = value
            while self._total > self._capacity:
                _, dropped = self._values.popitem(last=False)
                self._total -= self._size(dropped)
