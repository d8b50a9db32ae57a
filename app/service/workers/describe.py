"""Batched computation of descriptors for concurrent requests.

    bytes --DecodePool--> resized pixels --batches of equal size--> network --> descriptors
                      --> local features, for geometric re-ranking

Images are resized before they wait for the network, which saves memory: only those being decoded have their full size.
Images are not padded, so a batch holds images of equal size. `docs/lab/service.md` has measurements.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from glam.app.service.decode_cost import Decode, decode_cost
from glam.app.service.lru_cache import LruCache
from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher, BatchRule
from glam.app.service.workers.decode import DecodePool
from glam.images import Box, read_image
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.storage.checksums import digest
from glam.inference.decode import DRAFT_OVERSAMPLING, DecodedImage, prepare
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


class _DecodeResult(NamedTuple):
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
        decoders: decodes the images.
    """

    def __init__(
        self,
        model: Model,
        size: int,
        scales: Sequence[float],
        limits: ServiceLimits,
        metrics: Metrics,
        decoders: DecodePool,
    ) -> None:
        self._model, self._size, self._scales = model, size, scales
        self._metrics, self._decoders = metrics, decoders
        self._cache: LruCache[Key, ImageDescriptor] = LruCache(limits.descriptors)
        on_cpu = next(model.fast.parameters()).device.type == "cpu"
        threads = torch.get_num_threads()
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
            MemoryFullError: there is no memory for the image.
            ClosedError: the service is shutting down.
        """
        decoded = await self._decoders.run(partial(self._plan, read, box, local_features))
        described = decoded.cached
        if described is None:
            image = decoded.image
            assert image is not None
            described = ImageDescriptor(await self._network.run(image), image.width, image.height)
            self._cache.put(decoded.key, described)
        return described._replace(local_features=decoded.local_features)

    def close(self) -> None:
        """Finish the work in the queues."""
        self._network.close()

    def _plan(self, read: Callable[[], bytes], box: Box | None, local_features: bool) -> Decode[_DecodeResult]:
        data = read()
        key = digest(data), box
        cached = self._cache.get(key)
        self._metrics.descriptor_lookup(cached is not None)
        if cached is not None and not local_features:
            return Decode(0, lambda: _DecodeResult(key, None, cached, None))
        reduce_to = None if box is not None or local_features else DRAFT_OVERSAMPLING * self._size
        return Decode(decode_cost(data, reduce_to), partial(self._decode, data, key, cached, local_features))

    def _decode(self, data: bytes, key: Key, cached: ImageDescriptor | None, local_features: bool) -> _DecodeResult:
        box, image = key[1], None
        if cached is None:
            multiple = self._model.network.backbone.multiple
            image = prepare(data, box, self._size, multiple, Times(), keep_full_size=local_features)
        if not local_features:
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
