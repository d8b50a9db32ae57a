"""Bringing batches of images to the device of the network, beside its work."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glam.errors import ImageError
from glam.images import Box, ImageSource
from glam.inference.decode import DecodedImage, Jpeg, decode_jpegs, prepare
from glam.sizes import Size
from glam.stage_times import Times


@dataclass(frozen=True)
class PreparedImage:
    """A decoded image and its position in the input."""

    position: int
    decoded: DecodedImage


@dataclass(frozen=True)
class LoadedBatch:
    """A batch on the device.

    Attributes:
        images: in order.
        pixels: (b, h, w, 3) uint8; on a GPU b is a power of two, padded with the last image. None without images.
        failed: images that turned out to be unreadable, and why.
        ready: on a GPU, the event after which the pixels are there.
    """

    images: list[PreparedImage]
    pixels: Tensor | None
    failed: list[tuple[PreparedImage, ImageError]]
    ready: torch.cuda.Event | None

    def wait_on_current_stream(self) -> None:
        """Makes the current stream of a GPU wait for the pixels, and keeps their memory until it has read them."""
        if self.ready is not None and self.pixels is not None:
            stream = torch.cuda.current_stream(self.pixels.device)
            stream.wait_event(self.ready)
            self.pixels.record_stream(stream)


class Loader:
    """Prepares images in worker threads and brings whole batches to a device.

    Args:
        device: of the network.
        longest: of the sides of an image, in pixels.
        multiple: of pixels, that sides become.
        times: receives ``read``, ``decode`` and ``transfer``.
        gpu_decoding: whether a GPU decodes JPEGs.
    """

    def __init__(
        self, device: torch.device, longest: int, multiple: int, times: Times, *, gpu_decoding: bool = False
    ) -> None:
        self.device = device
        self.longest = longest
        self.multiple = multiple
        self.times = times
        self.defer_jpegs = gpu_decoding and device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def prepare(self, position: int, source: ImageSource, box: Box | None) -> PreparedImage:
        """Reads one image, see `glam.inference.decode.prepare`.

        Raises:
            ImageError: it cannot be read.
        """
        image = prepare(source, box, self.longest, self.multiple, self.times, defer_jpegs=self.defer_jpegs)
        return PreparedImage(position, image)

    @torch.inference_mode()
    def load(self, images: list[PreparedImage]) -> LoadedBatch:
        """Brings images of one size to the device; what cannot be decoded there is tried once more on the CPU."""
        if self.stream is None:
            return self._load(images)
        with torch.cuda.stream(self.stream):
            return self._load(images)

    def _load(self, images: list[PreparedImage]) -> LoadedBatch:
        size = images[0].decoded.size
        failed: list[tuple[PreparedImage, ImageError]] = []
        pixels: dict[int, Tensor] = {}
        jpegs = {image.position: image.decoded.jpeg for image in images if image.decoded.jpeg is not None}
        if jpegs:
            with self.times.stage("decode"):
                pixels = self._decode(jpegs, size)
        with self.times.stage("transfer"):
            on_host = []
            for image in images:
                if image.position in pixels:
                    continue
                try:
                    on_host.append((image.position, self._on_host(image.decoded)))
                except ImageError as error:
                    failed.append((image, error))
            if on_host:
                sent = self._send([decoded for _, decoded in on_host])
                pixels.update(zip((position for position, _ in on_host), sent, strict=True))
            loaded = [image for image in images if image.position in pixels]
            batch = self._stack([pixels[image.position] for image in loaded])
        ready = None
        if self.stream is not None:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self.stream)
        return LoadedBatch(loaded, batch, failed, ready)

    def _decode(self, jpegs: dict[int, Jpeg], size: Size) -> dict[int, Tensor]:
        """JPEGs decoded on the device, by position; where one fails each is tried alone, and those that fail are left
        out."""
        try:
            return dict(zip(jpegs, decode_jpegs(list(jpegs.values()), size, self.device), strict=True))
        except RuntimeError:
            if len(jpegs) == 1:
                return {}
            alone = (self._decode({position: jpeg}, size) for position, jpeg in jpegs.items())
            return {position: image for one in alone for position, image in one.items()}

    def _on_host(self, image: DecodedImage) -> Tensor:
        if image.pixels is None:
            image = prepare(image.source, image.box, self.longest, self.multiple, self.times)
        assert image.pixels is not None
        return image.pixels

    def _send(self, images: list[Tensor]) -> Tensor:
        """(h, w, 3) each to (b, h, w, 3) on the device."""
        if self.stream is None:
            return images[0].unsqueeze(0) if len(images) == 1 else torch.stack(images)
        pinned = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=True)
        # NumPy copies in this thread; PyTorch would call up as many as there are cores, all of which decode just now.
        np.stack([image.numpy() for image in images], out=pinned.numpy())
        return pinned.to(self.device, non_blocking=True)

    def _stack(self, images: list[Tensor]) -> Tensor | None:
        if not images:
            return None
        if self.stream is None:
            return images[0].unsqueeze(0) if len(images) == 1 else torch.stack(images)
        # cuDNN prepares every convolution again for each new shape; powers of two keep the number of shapes small.
        padded_count = 1 << (len(images) - 1).bit_length()
        return torch.stack(images + images[-1:] * (padded_count - len(images)))
