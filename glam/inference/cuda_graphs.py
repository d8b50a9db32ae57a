"""CUDA graphs: replay the work of a function on a GPU instead of launching it again, kernel by kernel."""

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
    """A function of one tensor with a cache of CUDA graphs: on a GPU, one graph per shape that comes more than once.

    Launching a network takes hundreds of calls, and each of them waits for the GIL while other threads decode;
    replaying takes one. The next call overwrites the result.

    Args:
        function: of a tensor; without effect but its result, which is on the same device.
        max_graphs: most graphs; each holds its input, all share the rest.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], max_graphs: int = 8) -> None:
        self._function = function
        self._max_graphs = max_graphs
        self._calls: Counter[torch.Size] = Counter()
        self._recordings: dict[torch.Size, _Recording] = {}
        self._pool: Any = None

    def __call__(self, input: Tensor) -> Tensor:
        """The function's result, on the current stream."""
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
        """Records the function for a shape; one that cannot be recorded is not tried again."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph, static_input = torch.cuda.CUDAGraph(), input.clone()
        try:
            # Other threads keep working: they load the next images.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = self._function(static_input)
        except RuntimeError:
            self._max_graphs = 0
            return None
        self._recordings[input.shape] = recording = _Recording(graph, static_input, output)
        return recording
