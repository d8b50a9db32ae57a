"""Seconds spent in each stage of describing images, added up over threads."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Times:
    """Seconds that the stages of a run took; stages overlap, and those of several threads add up.

    Attributes:
        seconds: by stage. ``read``, ``decode`` (with resizing) and ``transfer`` run beside the network, the first two
            in several threads; ``forward`` is the network; ``wait`` is how long it stood idle for want of images;
            ``write`` is what the caller adds.
        began: of the run, by `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.began = time.perf_counter()
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Adds to a stage; from any thread."""
        with self._lock:
            self.seconds[stage] += seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds what is inside to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def to_dict(self) -> dict[str, float]:
        """Seconds by stage and, as ``total``, by the clock."""
        return {
            **{name: round(seconds, 3) for name, seconds in self.seconds.items()},
            "total": round(self.elapsed(), 3),
        }
