"""CUDA graph cache: replay all kernels of a function with one call instead of launching them one by one."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    input: Tensor
    output: Tensor


class CudaGraphCache:
    """Wraps a function of one tensor; on a GPU it records a CUDA graph for each shape that occurs more than once.

    Launching a network takes hundreds of calls that each wait for the GIL while other threads decode images; replaying
    a graph takes one. Each call overwrites the result of the previous call.

    Args:
        function: function of one tensor, without side effects; its result is on the same device.
        max_graphs: maximum number of graphs; each has its own input, and all share the rest of their memory.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], max_graphs: int = 8) -> None:
        self._function = function
        self._max_graphs = max_graphs
        self._calls: Counter[torch.Size] = Counter()
        self._recordings: dict[torch.Size, _Recording] = {}
        self._pool: Any = None

    def __call__(self, input: Tensor) -> Tensor:
        """Computes the function on the current stream.

        Args:
            input: argument of the function, of any shape and on any device.

        Returns:
            Result of the function, valid until the next call.
        """
        if input.device.type != "cuda":
            return self._function(input)
        self._calls[input.shape] += 1
        recording = self._recordings.get(input.shape)
        if recording is None and self._calls[input.shape] > 1 and len(self._recordings) < self._max_graphs:
            recording = self._record(input)
        if recording is None:
            return self._function(input)
        recording.input.copy_(input)
        recording.graph.replay()
        return recording.output

    def _record(self, input: Tensor) -> _Recording | None:
        """Records a graph for the shape of the input; after a failure, no further graphs are recorded."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph, static_input = torch.cuda.CUDAGraph(), input.clone()
        try:
            # "thread_local" allows CUDA calls of other threads, which load the next images.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = self._function(static_input)
        except RuntimeError:
            self._max_graphs = 0
            return None
        self._recordings[input.shape] = recording = _Recording(graph, static_input, output)
        return recording
