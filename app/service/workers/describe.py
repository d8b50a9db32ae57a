"""Batched computation of descriptors for concurrent requests.

    bytes --decoders, one per core--> resized pixels --batches of equal size--> network --> descriptors
                                  --> local features, for geometric re-ranking

The decoders resize images before the images wait for the network, which saves memory: only the image in each decoder
has its full size. Images are not padded, so a batch holds images of equal size. `docs/lab/service.md` has measurements.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from glam.app.service.lru_cache import LruCache
from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher, BatchRule
from glam.images import Box, read_image
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.storage.checksums import digest
from glam.inference.decode import DecodedImage, prepare
from glam.inference.pipeline import describe_pixels
from glam.model import Model
from glam.stage_times import Times

BATCH_ON_CPU, BATCH_ON_GPU = 8, 32
"""Images per batch; `docs/lab/service.md` has the measurements on a CPU."""

Key = tuple[str, Box | None]


class ImageDescriptor(NamedTuple):
    """Descriptor of an image, or of a region of it.

    Attributes:
        descriptor: (dim,) float32, unit length.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        local_features: local features for geometric re-ranking; None unless they were requested.
    """

    descriptor: NDArray[np.float32]
    width: int
    height: int
    local_features: LocalFeatures | None = None


@dataclass(frozen=True)
class _DecodeRequest:
    """An image to decode; see `Describer.describe`."""

    read: Callable[[], bytes]
    box: Box | None
    local_features: bool


@dataclass(frozen=True)
class _DecodeResult:
    """Resized image, or None if its descriptor is cached; and its local features, if requested."""

    key: Key
    image: DecodedImage | None
    cached: ImageDescriptor | None
    local_features: LocalFeatures | None


class Describer:
    """Computes descriptors with the model, size, and scales of an index. Others would lower the scores.

    Args:
        model: model that the index was built with.
        size: longest side in pixels that images are resized to.
        scales: relative sizes that a descriptor is averaged over.
        limits: limits on queues, batches, and the descriptor cache.
        metrics: metrics to update.
    """

    def __init__(
        self, model: Model, size: int, scales: Sequence[float], limits: ServiceLimits, metrics: Metrics
    ) -> None:
        self._model, self._size, self._scales = model, size, scales
        self._metrics = metrics
        self._cache: LruCache[Key, ImageDescriptor] = LruCache(limits.descriptors)
        on_cpu = next(model.fast.parameters()).device.type == "cpu"
        threads = torch.get_num_threads()
        self._decoders: Batcher[_DecodeRequest, _DecodeResult] = Batcher(
            lambda requests: [self._decode(request) for request in requests],
            name="decode",
            capacity=limits.waiting,
            threads=max(2, os.cpu_count() or 2),
            prepare=lambda: torch.set_num_threads(1),  # there is one decoder per core
        )
        self._network: Batcher[DecodedImage, NDArray[np.float32]] = Batcher(
            self._run,
            name="network",
            capacity=limits.waiting,
            rule=BatchRule(
                max_size=limits.batch or (BATCH_ON_CPU if on_cpu else BATCH_ON_GPU),
                window=limits.window_seconds,
                key=lambda image: image.size,
            ),
            prepare=lambda: torch.set_num_threads(threads),
            report=metrics.batch("network"),
        )
        metrics.watch_queue("decode", self._decoders)
        metrics.watch_queue("network", self._network)

    async def describe(
        self, read: Callable[[], bytes], box: Box | None, *, local_features: bool = False
    ) -> ImageDescriptor:
        """Compute the descriptor of an image, or of a region of it.

        Args:
            read: returns the bytes of the file, or raises an exception if they are invalid; runs in a thread.
            box: region to describe, (x1, y1, x2, y2) in pixels of the upright image; None for the whole image.
            local_features: whether to extract local features, too.

        Raises:
            ImageError: the image cannot be decoded.
            FullError: a queue is full.
            ClosedError: the service is shutting down.
        """
        decoded = await self._decoders.run(_DecodeRequest(read, box, local_features))
        described = decoded.cached
        if described is None:
            image = decoded.image
            assert image is not None
            described = ImageDescriptor(await self._network.run(image), image.width, image.height)
            self._cache.put(decoded.key, described)
        return described._replace(local_features=decoded.local_features)

    def close(self) -> None:
        """Finish the work in the queues."""
        self._decoders.close()
        self._network.close()

    def _decode(self, request: _DecodeRequest) -> _DecodeResult:
        data, box = request.read(), request.box
        key = digest(data), box
        cached = self._cache.get(key)
        self._metrics.descriptor_lookup(cached is not None)
        image = None
        if cached is None:
            multiple = self._model.network.backbone.multiple
            image = prepare(data, box, self._size, multiple, Times(), keep_full_size=request.local_features)
        if not request.local_features:
            return _DecodeResult(key, image, cached, None)
        if image is None or image.full_size is None:
            # A large JPEG is decoded at 1/2 to 1/8 of its size for the network. Local features of these pixels would
            # differ from those in the index, so the image is decoded again.
            full_size = read_image(data)
        else:
            full_size = Image.fromarray(image.full_size.numpy())
            image = replace(image, full_size=None)
        return _DecodeResult(key, image, cached, extract(full_size, box=box))

    def _run(self, images: Sequence[DecodedImage]) -> list[NDArray[np.float32]]:
        """Descriptors, each (dim,) float32, of images of equal size."""
        network = self._model.fast
        pixels = torch.stack([image.pixels for image in images if image.pixels is not None])
        descriptors = describe_pixels(network, self._scales, pixels.to(next(network.parameters()).device))
        return list(descriptors.cpu().numpy().copy())
