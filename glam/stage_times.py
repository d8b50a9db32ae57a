"""Seconds spent in each stage of inference, summed over threads."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Times:
    """Seconds per stage of a run. Stages overlap, so their sum can exceed the elapsed time. Thread-safe.

    Attributes:
        seconds: seconds by stage, summed over threads. ``read``, ``decode`` (includes resizing), and ``transfer``
            overlap with ``forward``, the network; ``wait`` is the time that the network waits for images; callers add
            ``write``.
        began: start of the run, from `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.began = time.perf_counter()
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Adds seconds to a stage.

        Args:
            stage: name of the stage.
            seconds: seconds to add.
        """
        with self._lock:
            self.seconds[stage] += seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the block and adds its seconds to a stage.

        Args:
            name: name of the stage.
        """
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def elapsed(self) -> float:
        """Returns the seconds since the start of the run."""
        return time.perf_counter() - self.began

    def to_dict(self) -> dict[str, float]:
        """Returns the seconds by stage, and the elapsed seconds as ``total``."""
        return {
            **{name: round(seconds, 3) for name, seconds in self.seconds.items()},
            "total": round(self.elapsed(), 3),
        }
