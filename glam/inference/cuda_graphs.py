"""Replaying work on a GPU instead of launching it again, kernel by kernel."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    found: Tensor


class Replayed:
    """A function of one tensor that, on a GPU, is recorded as a CUDA graph for each shape that comes again.

    Launching a network takes hundreds of calls, each of which waits its turn for Python's lock where other threads
    decode; replaying takes one. What is given back is overwritten by the next call.

    Args:
        function: of a tensor; without effect but its result, which lies on the same device.
        most: shapes that are recorded; each holds its input, all share the rest.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], most: int = 8) -> None:
        self._function = function
        self._most = most
        self._calls: Counter[torch.Size] = Counter()
        self._recordings: dict[torch.Size, _Recording] = {}
        self._pool: Any = None

    def __call__(self, given: Tensor) -> Tensor:
        """The function's result, on the current stream."""
        if given.device.type != "cuda":
            return self._function(given)
        self._calls[given.shape] += 1
        recording = self._recordings.get(given.shape)
        if recording is None and self._calls[given.shape] > 1 and len(self._recordings) < self._most:
            recording = self._record(given)
        if recording is None:
            return self._function(given)
        recording.given.copy_(given)
        recording.graph.replay()
        return recording.found

    def _record(self, given: Tensor) -> _Recording | None:
        """Records the function for a shape; one that cannot be recorded is not tried again."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph, place = torch.cuda.CUDAGraph(), given.clone()
        try:
            # Other threads go on meanwhile: they bring the next images.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                found = self._function(place)
        except RuntimeError:
            self._most = 0
            return None
        self._recordings[given.shape] = recording = _Recording(graph, place, found)
        return recording
