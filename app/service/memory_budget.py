"""Memory budget: what the service may decode at the same time.

budget of the process - memory in use after the start = capacity
reserve --wait for room--> decode --> release
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition

from glam.errors import GlamError
from glam.machine_memory import machine_memory

WAIT_SECONDS = 30.0
"""Longest wait for room; half of the time limit of a request. Arbitrary."""

LEAST_BYTES = 50_000_000
"""Memory without which hardly any image can be decoded; arbitrary."""

TRIM_BYTES = 64_000_000
"""Size of a reservation after which the C library returns free memory to the system; arbitrary."""


class MemoryFullError(Exception):
    """The budget has no room. ``str(error)`` is a sentence for the client."""


class MemoryBudget:
    """Memory that decoding may take, shared by all threads.

    Args:
        capacity: bytes.
        wait_seconds: longest wait of a reservation for room.

    Attributes:
        capacity: bytes.
        reserved: bytes that are reserved now.
    """

    def __init__(self, capacity: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.capacity, self._wait_seconds = capacity, wait_seconds
        self.reserved = 0
        self._changed = Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Context manager: ``size`` bytes are reserved inside the block.

        Raises:
            MemoryFullError: there was no room within the time limit, or ``size`` exceeds the capacity.
        """
        if size > self.capacity:
            raise MemoryFullError(
                f"The image takes {size / 1e6:,.0f} MB to decode, and the service has {self.capacity / 1e6:,.0f} MB for"
                " images. Use a smaller image, or start the service with more --memory."
            )
        with self._changed:
            if not self._changed.wait_for(lambda: self.reserved + size <= self.capacity, self._wait_seconds):
                raise MemoryFullError("The service has no memory for the image now. Try again in a few seconds.")
            self.reserved += size
        try:
            yield
        finally:
            self._release(size)

    def try_reserve(self, size: int) -> bool:
        """Reserve ``size`` bytes if there is room now, and return whether there was. `release` returns them."""
        with self._changed:
            if self.reserved + size > self.capacity:
                return False
            self.reserved += size
            return True

    def release(self, size: int) -> None:
        """Return ``size`` bytes that `try_reserve` reserved."""
        with self._changed:
            self.reserved -= size
            self._changed.notify_all()

    def _release(self, size: int) -> None:
        if size >= TRIM_BYTES:
            _trim_heap()
        self.release(size)


def decoding_capacity(budget: int | None, least: int) -> int:
    """Bytes that decoding may take.

    Args:
        budget: bytes that the process may use; None for a quarter of the machine, or more if ``least`` requires it.
        least: bytes that decoding must be able to take.

    Returns:
        The budget without the memory in use now. It may be smaller than ``least``, but only if ``budget`` is given.

    Raises:
        GlamError: less than `LEAST_BYTES` of the budget remain.
    """
    used = used_memory()
    if budget is None:
        return max(machine_memory() // 4 - used, least)
    if budget - used < LEAST_BYTES:
        raise GlamError(
            f"The model and the index take {used / 1e6:.0f} MB of the {budget / 1e6:.0f} MB that the service may use. "
            f"Give it at least {(used + LEAST_BYTES) / 1e6:.0f} MB with --memory."
        )
    return budget - used


def used_memory() -> int:
    """Memory of this process in bytes, without mapped files; 0 if the system does not report it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def _trim_heap() -> None:
    """Returns free memory to the system, if the C library can (glibc)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
