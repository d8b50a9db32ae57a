"""Inference pipeline: decode a stream of images, batch images of equal size, and run the network at each scale.

    sources --workers--> resized images --by size--> batches --loader--> on the device --network--> descriptors

The stages overlap, and results are copied back one batch later, so that the GPU does not wait for the CPU. Batches
fill in their own order, so each result carries the position of its image in the input.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glam.errors import ImageError
from glam.images import Box, ImageSource
from glam.inference.cuda_graphs import CudaGraphCache
from glam.inference.loader import LoadedBatch, Loader, PreparedImage
from glam.network import DescriptorNetwork
from glam.parallel_map import parallel_map
from glam.sizes import Size, scaled_size
from glam.stage_times import Times

MAX_WORKERS = 8
"""Maximum number of decoding threads; more of them wait for the GIL, and delay the thread that runs the network."""


def _default_workers() -> int:
    return max(2, min(os.cpu_count() or 2, MAX_WORKERS))


@dataclass(frozen=True)
class Settings:
    """Settings of the pipeline. Descriptors depend on ``size`` and ``scales``, so indexes and reports store both.

    Attributes:
        size: longest side in pixels; larger images are reduced to it.
        scales: multiples of the resized image's size to run the network at; the descriptors are averaged.
        batch_size: maximum number of images per run of the network on a GPU. On the CPU images run one by one, which
            is as fast.
        workers: number of decoding threads; by default one per core, from 2 to `MAX_WORKERS`.
        gpu_decoding: whether to decode JPEGs on the GPU, if the network runs on one. This saves CPU time, and changes
            the descriptors slightly.
    """

    size: int
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 16
    workers: int = field(default_factory=_default_workers)
    gpu_decoding: bool = False


@dataclass(frozen=True)
class DescribedImage:
    """Result for one image of the stream.

    Attributes:
        position: position of the image in the input, from 0.
        descriptor: (dim,), float32, of unit length; None if the image cannot be read.
        error: why the image cannot be read; None if it was read.
        width: width of the upright image in pixels, before cropping and resizing; 0 if it cannot be read.
        height: height of the upright image in pixels, before cropping and resizing; 0 if it cannot be read.
    """

    position: int
    descriptor: NDArray[np.float32] | None
    error: ImageError | None
    width: int = 0
    height: int = 0


def describe_stream(
    network: DescriptorNetwork,
    items: Iterable[tuple[ImageSource, Box | None]],
    settings: Settings,
    times: Times | None = None,
) -> Iterator[DescribedImage]:
    """Computes descriptors of a stream of images, with a bounded number of images in memory.

    Args:
        network: network in evaluation mode, on the device to use; `glam.inference.optimize.inference_form` of it is
            faster.
        items: pairs of an image (see `glam.images.read_image`) and a box, x1, y1, x2, y2 in pixels of the upright
            image, or None for the full image. The stream may be endless.
        settings: size, scales, batch size, and threads.
        times: collects the seconds spent in each stage; None to discard them.

    Yields:
        One result per image, in the order in which batches finish. An unreadable image has an error and no descriptor.
    """
    times = times or Times()
    device = next(network.parameters()).device
    loader = Loader(device, settings.size, network.backbone.multiple, times, gpu_decoding=settings.gpu_decoding)
    describe = CudaGraphCache(partial(describe_pixels, network, settings.scales))
    batches = _load(loader, _batches(_prepare(loader, items, settings), settings, device))
    running: deque[_Run] = deque()
    while True:
        with times.stage("wait"):
            batch = next(batches, None)
        if batch is None:
            break
        if isinstance(batch, DescribedImage):
            yield batch
            continue
        running.append(_start(describe, batch, times))
        if len(running) > 1:
            yield from running.popleft().results(times)
    while running:
        yield from running.popleft().results(times)


@torch.inference_mode()
def describe_tensor(network: DescriptorNetwork, images: Tensor, scales: Sequence[float]) -> Tensor:
    """Computes descriptors of normalized images: averages them over scales, normalizes, and whitens them.

    If the backbone is in half precision, the other layers run in the same type. A backbone in single precision runs in
    bfloat16 on a GPU.

    Args:
        network: network in evaluation mode.
        images: normalized images of one size, (b, 3, h, w); h and w are multiples of the backbone's ``multiple``.
        scales: factors that the images are resized by; sides are rounded to the backbone's ``multiple``.

    Returns:
        Descriptors, (b, dim), float32, of unit length.
    """
    height, width = images.shape[-2:]
    device, dtype = images.device, next(network.backbone.parameters()).dtype
    layout = network.layout(device)
    low = torch.bfloat16 if dtype == torch.float32 else dtype
    run = network if network.architecture.whitening is None else network.unwhitened
    total: Tensor | None = None
    for scale in scales:
        size = scaled_size((height, width), scale, network.backbone.multiple)
        scaled = images if scale == 1 else F.interpolate(images, size=size, mode="bilinear", antialias=True)
        with torch.autocast(device.type, low, enabled=dtype == low or device.type == "cuda"):
            descriptors = run(scaled.to(dtype).contiguous(memory_format=layout))
        total = descriptors if total is None else total + descriptors
    assert total is not None, "at least one scale"
    return network.whitened(F.normalize(total, dim=1))


@torch.inference_mode()
def describe_pixels(network: DescriptorNetwork, scales: Sequence[float], pixels: Tensor) -> Tensor:
    """Normalizes images and computes their descriptors with `describe_tensor`.

    Args:
        network: network in evaluation mode.
        scales: factors that the images are resized by.
        pixels: images of one size, (b, h, w, 3), uint8, on the network's device.

    Returns:
        Descriptors, (b, dim), float32, of unit length.
    """
    return describe_tensor(network, to_tensor(pixels, network.backbone.mean, network.backbone.std), scales)


def to_tensor(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scales pixels to [0, 1] and normalizes them per channel.

    Args:
        pixels: images, (b, h, w, 3), uint8.
        mean: mean per channel, of images in [0, 1].
        std: standard deviation per channel, of images in [0, 1].

    Returns:
        Normalized images, (b, 3, h, w), float32.
    """
    images = pixels.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def _prepare(
    loader: Loader, items: Iterable[tuple[ImageSource, Box | None]], settings: Settings
) -> Iterator[PreparedImage | DescribedImage]:
    """Decodes images in threads, a few batches ahead, and yields them in the order of the input."""

    def prepare(item: tuple[int, tuple[ImageSource, Box | None]]) -> PreparedImage | DescribedImage:
        position, (source, box) = item
        try:
            return loader.prepare(position, source, box)
        except ImageError as error:
            return DescribedImage(position, None, error)

    ahead = 2 * settings.batch_size + settings.workers
    return parallel_map(prepare, enumerate(items), threads=settings.workers, ahead=ahead, name="decode")


def _batches(
    images: Iterator[PreparedImage | DescribedImage], settings: Settings, device: torch.device
) -> Iterator[list[PreparedImage] | DescribedImage]:
    """Groups images of equal size into batches; passes errors of unreadable images through."""
    max_images = settings.batch_size if device.type == "cuda" else 1
    waiting: dict[Size, list[PreparedImage]] = defaultdict(list)
    held = 0
    for image in images:
        if isinstance(image, DescribedImage):
            yield image
            continue
        size = image.decoded.size
        waiting[size].append(image)
        held += 1
        # If too many images of rare sizes wait, the largest group is sent early, so that memory stays bounded.
        if len(waiting[size]) < max_images and held < 8 * max_images:
            continue
        batch = waiting.pop(max(waiting, key=lambda s: len(waiting[s])))
        held -= len(batch)
        yield batch
    yield from waiting.values()


def _load(
    loader: Loader, batches: Iterator[list[PreparedImage] | DescribedImage]
) -> Iterator[LoadedBatch | DescribedImage]:
    """Copies batches to the device, ahead in a thread on a GPU; passes errors of unreadable images through."""

    def load(batch: list[PreparedImage] | DescribedImage) -> LoadedBatch | DescribedImage:
        return batch if isinstance(batch, DescribedImage) else loader.load(batch)

    if loader.stream is None:
        return map(load, batches)
    return parallel_map(load, batches, threads=1, ahead=2, name="load")


@dataclass(frozen=True)
class _Run:
    """A batch in flight on the device.

    Attributes:
        loaded: the batch.
        descriptors: (b, dim), float32, on the CPU; on a GPU, valid after the second event.
        events: events before and after the network; None on the CPU.
    """

    loaded: LoadedBatch
    descriptors: Tensor
    events: tuple[torch.cuda.Event, torch.cuda.Event] | None

    def results(self, times: Times) -> Iterator[DescribedImage]:
        """Waits for the device and yields the results, without those of the padding."""
        if self.events is not None:
            began, ended = self.events
            ended.synchronize()
            times.add("forward", began.elapsed_time(ended) / 1000)
        for image, error in self.loaded.failed:
            yield DescribedImage(image.position, None, error)
        for image, descriptor in zip(self.loaded.images, self.descriptors.numpy(), strict=False):
            # Copied, because a view would keep the memory of the batch alive.
            yield DescribedImage(image.position, descriptor.copy(), None, image.decoded.width, image.decoded.height)


def _start(describe: Callable[[Tensor], Tensor], loaded: LoadedBatch, times: Times) -> _Run:
    """Starts the network on a batch."""
    if loaded.pixels is None:
        return _Run(loaded, torch.empty(0), None)
    device = loaded.pixels.device
    if device.type != "cuda":
        with times.stage("forward"):
            return _Run(loaded, describe(loaded.pixels), None)
    loaded.wait_on_current_stream()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    began.record()
    descriptors = describe(loaded.pixels)
    host = torch.empty(descriptors.shape, dtype=descriptors.dtype, pin_memory=True)
    host.copy_(descriptors, non_blocking=True)
    ended.record()
    return _Run(loaded, host, (began, ended))
