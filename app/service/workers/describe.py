"""Describe images of several requests in batches.

    bytes --decoders, one a core--> pixels at the network's size --batches of one size--> network --> descriptors
                                --> local features, for geometric re-ranking

Images are decoded and reduced before they wait for the network, so that the queue needs little memory: each decoder
holds one image at full size, and extracts its local features meanwhile. A batch holds images of one size, because none
is padded; `docs/service.md` has measurements under load.
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

Key = tuple[str, Box | None]


class ImageDescriptor(NamedTuple):
    """A description of an image, or of a part of it.

    Attributes:
        descriptor: (dim,) float32 of unit length.
        width, height: of the upright image, in pixels.
        local_features: for geometric re-ranking; None if `Describer.describe` was not asked for them.
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
    """An image that is ready for the network, or its descriptor from the cache; and its local features, if wanted."""

    key: Key
    image: DecodedImage | None
    cached: ImageDescriptor | None
    local_features: LocalFeatures | None


class Describer:
    """Describes images with one model, at the size and scales of an index: at others, scores would be lower.

    Args:
        model: the model that the index was built with.
        size: longest side in pixels.
        scales: to average over.
        limits: sizes of the queues, the batches and the cache.
        metrics: counters.
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
            prepare=lambda: torch.set_num_threads(1),  # there is one decoder a core already
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
        """Describe an image, or the part of it in a box.

        Args:
            read: returns the bytes of the file, or raises an exception if they are unusable; runs in a thread.
            box: x1, y1, x2, y2 in pixels of the upright image.
            local_features: whether to extract the local features, too.

        Raises:
            ImageError: the image cannot be decoded.
            FullError, ClosedError: see `glam.app.service.workers.batcher`.
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
            # A large JPEG is decoded at 1/2 to 1/8 for the network. Local features of those pixels would differ from
            # the ones in the index, so it is decoded once more.
            full_size = read_image(data)
        else:
            full_size = Image.fromarray(image.full_size.numpy())
            image = replace(image, full_size=None)
        return _DecodeResult(key, image, cached, extract(full_size, box=box))

    def _run(self, images: Sequence[DecodedImage]) -> list[NDArray[np.float32]]:
        """Descriptors, (dim,) each, of images of one size."""
        network = self._model.fast
        pixels = torch.stack([image.pixels for image in images if image.pixels is not None])
        descriptors = describe_pixels(network, self._scales, pixels.to(next(network.parameters()).device))
        return list(descriptors.cpu().numpy().copy())
