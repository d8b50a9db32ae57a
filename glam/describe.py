"""Describing a stream of images: decode, resize, gather like sizes into batches, run the network at every scale.

    sources --threads--> (position, uint8 image at its size) --by size--> batches --network--> (position, descriptor)

Images come out in the order in which their batches fill; each carries its position, so that nothing is ever shifted.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glam.errors import ImageError
from glam.images import Box, ImageSource, crop_image, read_image, source_name
from glam.network import DescriptorNetwork
from glam.sizes import Size, fitted_size, scaled_size

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """How images are described; part of every index and report, since descriptors depend on it.

    Attributes:
        size: longest side in pixels, larger images are reduced to it.
        scales: each image is described at these multiples of its size; the descriptors are averaged.
        batch_size: most images in one run of the network.
        workers: threads that decode.
    """

    size: int
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 16
    workers: int = 4


@dataclass(frozen=True)
class Described:
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


@dataclass(frozen=True)
class _Decoded:
    position: int
    pixels: Pixels  # (h, w, 3) at the size of the network's input
    width: int
    height: int


def describe_stream(
    network: DescriptorNetwork, items: Iterable[tuple[ImageSource, Box | None]], settings: Settings
) -> Iterator[Described]:
    """Describes images as they come, each with its position; an unreadable one is reported in its place.

    Args:
        network: in evaluation mode, on the device that is to be used.
        items: (source, box or None); may be endless, a bounded number is held at a time.
        settings: size, scales, batch.
    """
    waiting: dict[Size, list[_Decoded]] = defaultdict(list)
    held = 0
    for decoded in _decode(items, settings, network.backbone.multiple):
        if isinstance(decoded, Described):
            yield decoded
            continue
        size = decoded.pixels.shape[0], decoded.pixels.shape[1]
        waiting[size].append(decoded)
        held += 1
        # The largest group goes when too many images of rare sizes wait, so that memory stays bounded.
        if len(waiting[size]) < settings.batch_size and held < 8 * settings.batch_size:
            continue
        size = max(waiting, key=lambda s: len(waiting[s]))
        batch = waiting.pop(size)
        held -= len(batch)
        yield from _describe_batch(network, batch, settings.scales)
    for batch in waiting.values():
        yield from _describe_batch(network, batch, settings.scales)


@torch.inference_mode()
def describe_tensor(network: DescriptorNetwork, images: Tensor, scales: Sequence[float]) -> Tensor:
    """Descriptors of normalised images, averaged over scales and brought back to unit length; on a GPU in bfloat16.

    Args:
        network: in evaluation mode.
        images: (b, 3, h, w), h and w multiples of the backbone's ``multiple``.
        scales: each image is resized by each of these, to the backbone's multiples.

    Returns:
        (b, dim) float32.
    """
    height, width = images.shape[-2:]
    total: Tensor | None = None
    for scale in scales:
        size = scaled_size((height, width), scale, network.backbone.multiple)
        scaled = images if scale == 1 else F.interpolate(images, size=size, mode="bilinear", antialias=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
            descriptors = network(scaled)
        total = descriptors if total is None else total + descriptors
    assert total is not None, "at least one scale"
    return F.normalize(total, dim=1)


def to_tensor(pixels: Pixels, mean: Sequence[float], std: Sequence[float], device: torch.device) -> Tensor:
    """(b, h, w, 3) uint8 to (b, 3, h, w) float32, normalised per channel."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (images - torch.tensor(mean, device=device).view(shape)) / torch.tensor(std, device=device).view(shape)


def _decode(
    items: Iterable[tuple[ImageSource, Box | None]], settings: Settings, multiple: int
) -> Iterator[_Decoded | Described]:
    """Decodes in threads, a few batches ahead; results in the order of the input."""
    ahead = 2 * settings.batch_size + settings.workers
    queue: deque[Future[_Decoded | Described]] = deque()
    with ThreadPoolExecutor(settings.workers, thread_name_prefix="decode") as pool:
        try:
            for position, (source, box) in enumerate(items):
                queue.append(pool.submit(_decode_one, position, source, box, settings.size, multiple))
                if len(queue) >= ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()


def _decode_one(
    position: int, source: ImageSource, box: Box | None, longest: int, multiple: int
) -> _Decoded | Described:
    try:
        whole = read_image(source)
        image = whole if box is None else crop_image(whole, box, source_name(source))
    except ImageError as error:
        return Described(position, None, error)
    height, width = fitted_size(image.width, image.height, longest, multiple)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)  # antialiased, as in training
    return _Decoded(position, np.asarray(resized), whole.width, whole.height)


def _describe_batch(network: DescriptorNetwork, batch: list[_Decoded], scales: Sequence[float]) -> Iterator[Described]:
    device = next(network.parameters()).device
    rows = [decoded.pixels for decoded in batch]
    if device.type == "cuda":
        # cuDNN prepares every convolution anew for each shape that it meets; whole powers of two keep shapes few.
        rows += rows[-1:] * (2 ** math.ceil(math.log2(len(rows))) - len(rows))
    pixels = np.stack(rows)
    images = to_tensor(pixels, network.backbone.mean, network.backbone.std, device)
    images = images.contiguous(memory_format=network.layout(device))
    descriptors = describe_tensor(network, images, scales).cpu().numpy()
    for decoded, descriptor in zip(batch, descriptors, strict=False):  # the filling is left over
        yield Described(decoded.position, descriptor, None, decoded.width, decoded.height)
