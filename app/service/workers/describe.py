"""Describing photographs of several requests at a time.

    bytes --decoders, one a core--> pixels at the network's size --batches of one size--> network --> descriptors

What waits for the network is small: images are decoded and reduced first. A batch holds images of one size only, since
none is ever padded; under load enough of each size wait (`docs/service.md` has the figures).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from glam.app.service.lru_cache import LruCache
from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher
from glam.images import Box
from glam.index.storage.checksums import digest
from glam.inference.decode import DecodedImage, prepare
from glam.inference.pipeline import describe_pixels
from glam.model import Model
from glam.stage_times import Times

BATCH_ON_CPU, BATCH_ON_GPU = 8, 32

Key = tuple[str, Box | None]


class DescribedUpload(NamedTuple):
    """A photograph that was described: (dim,) of unit length, pixels of the upright image."""

    descriptor: NDArray[np.float32]
    width: int
    height: int


@dataclass(frozen=True)
class _DecodeJob:
    """A photograph to decode: what reads its bytes, its part, and what is to be said against it."""

    read: Callable[[], bytes]
    box: Box | None
    check: Callable[[bytes], object]


@dataclass(frozen=True)
class _Decoded:
    """A photograph that is ready for the network, or was described before."""

    key: Key
    image: DecodedImage | None
    known: DescribedUpload | None


class Describer:
    """Describes with one model, at the size and scales of an index: at others the same place would score lower.

    Args:
        model: describes.
        size: longest side in pixels.
        scales: to average over.
        limits: how many wait, how many go together, how many are kept.
        metrics: counts.
    """

    def __init__(
        self, model: Model, size: int, scales: Sequence[float], limits: ServiceLimits, metrics: Metrics
    ) -> None:
        self._model, self._size, self._scales = model, size, scales
        self._metrics = metrics
        self._recent: LruCache[Key, DescribedUpload] = LruCache(limits.descriptors)
        on_cpu = next(model.fast.parameters()).device.type == "cpu"
        threads = torch.get_num_threads()
        self._decoders: Batcher[_DecodeJob, _Decoded] = Batcher(
            lambda jobs: [self._decode(job) for job in jobs],
            name="decode",
            room=limits.waiting,
            threads=max(2, os.cpu_count() or 2),
            prepare=lambda: torch.set_num_threads(1),  # there is one decoder a core already
        )
        self._network: Batcher[DecodedImage, NDArray[np.float32]] = Batcher(
            self._run,
            name="network",
            room=limits.waiting,
            most=limits.batch or (BATCH_ON_CPU if on_cpu else BATCH_ON_GPU),
            window=limits.window_seconds,
            key=lambda image: image.size,
            prepare=lambda: torch.set_num_threads(threads),
            report=metrics.batch("network"),
        )
        metrics.watch_queue("decode", self._decoders)
        metrics.watch_queue("network", self._network)

    async def describe(
        self, read: Callable[[], bytes], box: Box | None, check: Callable[[bytes], object] = lambda data: None
    ) -> DescribedUpload:
        """Describes a photograph, or the part of it in a box.

        Args:
            read: gives the bytes of its file; runs in a thread.
            box: x1, y1, x2, y2 in pixels of the upright image.
            check: looks at the bytes before anything is decoded, and raises what is to be said against them.

        Raises:
            ImageError: it cannot be decoded.
            FullError, ClosedError: see `glam.app.service.workers.batcher`.
        """
        decoded = await asyncio.wrap_future(self._decoders.submit(_DecodeJob(read, box, check)))
        if decoded.known is not None:
            return decoded.known
        image = decoded.image
        assert image is not None
        descriptor = await asyncio.wrap_future(self._network.submit(image))
        known = DescribedUpload(descriptor, image.width, image.height)
        self._recent.put(decoded.key, known)
        return known

    def close(self) -> None:
        """Finishes what waits."""
        self._decoders.close()
        self._network.close()

    def _decode(self, job: _DecodeJob) -> _Decoded:
        data = job.read()
        key = digest(data), job.box
        known = self._recent.get(key)
        self._metrics.asked_again(known is not None)
        if known is not None:
            return _Decoded(key, None, known)
        job.check(data)
        multiple = self._model.network.backbone.multiple
        return _Decoded(key, prepare(data, job.box, self._size, multiple, Times()), None)

    def _run(self, images: Sequence[DecodedImage]) -> list[NDArray[np.float32]]:
        """(dim,) for each of images of one size."""
        network = self._model.fast
        pixels = torch.stack([image.pixels for image in images if image.pixels is not None])
        found = describe_pixels(network, self._scales, pixels.to(next(network.parameters()).device))
        return list(found.cpu().numpy().copy())
