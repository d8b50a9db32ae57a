"""Describing a stream of images: decode, gather like sizes into batches, run the network at every scale.

    sources --workers--> images at their size --by size--> batches --loader--> on the device --network--> descriptors

Every stage runs ahead of the next, and results are fetched one batch late, so that a GPU never waits for its own.
Images come out in the order in which their batches fill; each carries its position, so that nothing is ever shifted.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
"""Decoding threads; more of them hold one another, and the thread that runs the network, up at Python's lock."""


def _default_workers() -> int:
    return max(2, min(os.cpu_count() or 2, MAX_WORKERS))


@dataclass(frozen=True)
class Settings:
    """How images are described; size and scales are part of every index and report, since descriptors depend on them.

    Attributes:
        size: longest side in pixels, larger images are reduced to it.
        scales: each image is described at these multiples of its size; the descriptors are averaged.
        batch_size: most images in one run of the network on a GPU; on the CPU each image runs alone, which is as fast
            there.
        workers: threads that decode; one for each core by default, up to `MAX_WORKERS`.
        gpu_decoding: whether a GPU decodes JPEGs where the network is on one: spares cores, costs a little accuracy.
    """

    size: int
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 16
    workers: int = field(default_factory=_default_workers)
    gpu_decoding: bool = False


@dataclass(frozen=True)
class DescribedImage:
    """One image of the stream.

    Attributes:
        position: of the source in the input, from 0.
        descriptor: (dim,) float32 of unit length; None when the image could not be read.
        error: why it could not be read; None when it was.
        width, height: of the upright image in pixels, before the box and before resizing; 0 when it was not read.
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
    """Describes images as they come, each with its position; an unreadable one is reported in its place.

    Args:
        network: in evaluation mode, on the device that is to be used; its
            `glam.inference.optimize.inference_form` is faster.
        items: (source, box or None); may be endless, a bounded number is held at a time.
        settings: size, scales, batch.
        times: receives the seconds of each stage.
    """
    times = times or Times()
    device = next(network.parameters()).device
    loader = Loader(device, settings.size, network.backbone.multiple, times, gpu_decoding=settings.gpu_decoding)
    describe = CudaGraphCache(partial(describe_pixels, network, settings.scales))
    loading: deque[Future[LoadedBatch]] = deque()
    running: deque[_Run] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        try:
            for batch in _batches(_prepare(loader, items, settings), settings, device):
                if isinstance(batch, DescribedImage):
                    yield batch
                    continue
                loading.append(thread.submit(loader.load, batch))
                if len(loading) > 2:
                    running.append(_start(describe, loading.popleft(), times))
                if len(running) > 1:
                    yield from running.popleft().results(times)
            while loading or running:
                if loading:
                    running.append(_start(describe, loading.popleft(), times))
                if len(running) > 1 or not loading:
                    yield from running.popleft().results(times)
        finally:
            for future in loading:
                future.cancel()


@torch.inference_mode()
def describe_tensor(network: DescriptorNetwork, images: Tensor, scales: Sequence[float]) -> Tensor:
    """Descriptors of normalized images, averaged over scales, brought back to unit length and then whitened.

    A backbone in half precision is followed by the rest in the same; one in single precision runs in bfloat16 on a GPU.

    Args:
        network: in evaluation mode.
        images: (b, 3, h, w), h and w multiples of the backbone's ``multiple``.
        scales: each image is resized by each of these, to the backbone's multiples.

    Returns:
        (b, dim) float32.
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
    """`describe_tensor` of (b, h, w, 3) uint8 on the network's device."""
    return describe_tensor(network, to_tensor(pixels, network.backbone.mean, network.backbone.std), scales)


def to_tensor(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(b, h, w, 3) uint8 to (b, 3, h, w) float32, normalized per channel."""
    images = pixels.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def _prepare(
    loader: Loader, items: Iterable[tuple[ImageSource, Box | None]], settings: Settings
) -> Iterator[PreparedImage | DescribedImage]:
    """Prepares images in threads, a few batches ahead; results in the order of the input."""

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
    """Gathers images of one size into batches; an image that could not be read passes through."""
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
        # The largest group goes when too many images of rare sizes wait, so that memory stays bounded.
        if len(waiting[size]) < max_images and held < 8 * max_images:
            continue
        batch = waiting.pop(max(waiting, key=lambda s: len(waiting[s])))
        held -= len(batch)
        yield batch
    yield from waiting.values()


@dataclass(frozen=True)
class _Run:
    """A batch that the device works on.

    Attributes:
        loaded: the batch.
        descriptors: (b, dim), on the CPU once ``events`` have passed.
        events: before and after the network, on a GPU.
    """

    loaded: LoadedBatch
    descriptors: Tensor
    events: tuple[torch.cuda.Event, torch.cuda.Event] | None

    def results(self, times: Times) -> Iterator[DescribedImage]:
        """Waits for the device and gives what it found; the filling of a batch is left over."""
        if self.events is not None:
            began, ended = self.events
            ended.synchronize()
            times.add("forward", began.elapsed_time(ended) / 1000)
        for image, error in self.loaded.failed:
            yield DescribedImage(image.position, None, error)
        for image, descriptor in zip(self.loaded.images, self.descriptors.numpy(), strict=False):
            # A copy: the row would keep the memory of its whole batch.
            yield DescribedImage(image.position, descriptor.copy(), None, image.decoded.width, image.decoded.height)


def _start(describe: Callable[[Tensor], Tensor], future: Future[LoadedBatch], times: Times) -> _Run:
    """Waits for a batch to be loaded and sends it through the network."""
    with times.stage("wait"):
        loaded = future.result()
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
