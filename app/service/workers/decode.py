"""The one place where the service decodes images, in few threads and within a memory budget.

    plan: reads a header --decode threads, one per core--> Decode: small --same thread, memory reserved--> result
                                                                   large or serial --one thread for all--> result

Large images have a thread of their own, with a low priority, so that they delay others little.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

from glam.app.service.decode_cost import Decode, decode_cost
from glam.app.service.memory_budget import MemoryBudget
from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher, lower_priority
from glam.errors import TooLargeError
from glam.images import source_name

T = TypeVar("T")

Plan = Callable[[], Decode[T]]
"""Reads the header of an image, and returns how to decode it. It runs in a thread."""

LARGE_BYTES = 200_000_000
"""Cost of the smallest large image: 12 megapixels of a PNG. Arbitrary."""

LARGE_QUEUE = 16
"""Maximum number of large images and explanations that wait; arbitrary."""


class DecodePool:
    """Decodes images for all requests.

    Args:
        budget: memory that decoding may take.
        limits: limits on the queues.
        metrics: metrics to update.

    Attributes:
        budget: memory that decoding may take.
    """

    def __init__(self, budget: MemoryBudget, limits: ServiceLimits, metrics: Metrics) -> None:
        self.budget = budget
        self._small: Batcher[Plan[Any], Any] = Batcher(
            self._start,
            name="decode",
            capacity=limits.waiting,
            threads=max(2, os.cpu_count() or 2),
            prepare=lambda: torch.set_num_threads(1),  # there is one thread per core
        )
        self._large: Batcher[Decode[Any], Any] = Batcher(
            self._finish,
            name="turn",
            capacity=LARGE_QUEUE,
            prepare=lower_priority,
            report=metrics.batch("turn"),
        )
        metrics.watch_queue("decode", self._small)
        metrics.watch_queue("turn", self._large)

    async def run(self, plan: Plan[T]) -> T:
        """Plan the decoding of an image, and decode it. Canceling removes it from the queue.

        Raises:
            FullError: a queue is full.
            MemoryFullError: there is no memory for the image.
            ClosedError: the service is shutting down.
        """
        outcome = await self._small.run(plan)
        result: T = await self._large.run(outcome) if isinstance(outcome, Decode) else outcome
        return result

    def reserve(self, data: bytes) -> AbstractContextManager[None]:
        """Context manager: memory to decode a file at full size is reserved inside the block.

        Args:
            data: content of the file.

        Raises:
            ImageError: the header cannot be read, or the service never has as much memory.
            MemoryFullError: there is no memory for the image now.
        """
        cost = decode_cost(data)
        if cost > self.budget.capacity:
            raise TooLargeError(source_name(data), "takes more memory to decode than the service may use")
        return self.budget.reserve(cost)

    def close(self) -> None:
        """Finish the work in the queues."""
        self._small.close()
        self._large.close()

    def _start(self, plans: Sequence[Plan[Any]]) -> list[Any]:
        """Results of small images; for the others the `Decode`."""
        decodes = [plan() for plan in plans]
        return [decode if decode.serial or decode.cost >= LARGE_BYTES else self._decode(decode) for decode in decodes]

    def _finish(self, decodes: Sequence[Decode[Any]]) -> list[Any]:
        return [self._decode(decode) for decode in decodes]

    def _decode(self, decode: Decode[Any]) -> Any:
        with self.budget.reserve(decode.cost):
            return decode.run()
