"""Batch loader: decode images and copy batches to the device while the network runs."""

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
    """A prepared image.

    Attributes:
        position: position of the image in the input, from 0.
        decoded: the image, or a JPEG that is still to be decoded.
    """

    position: int
    decoded: DecodedImage


@dataclass(frozen=True)
class LoadedBatch:
    """A batch on the device.

    Attributes:
        images: images of the batch, in order.
        pixels: (b, h, w, 3), uint8; on a GPU, the batch is padded with its last image to a power of two. None if no
            image could be read.
        failed: images that cannot be read, with their errors.
        ready: event after which the pixels are valid; None on the CPU.
    """

    images: list[PreparedImage]
    pixels: Tensor | None
    failed: list[tuple[PreparedImage, ImageError]]
    ready: torch.cuda.Event | None

    def wait_on_current_stream(self) -> None:
        """Makes the current CUDA stream wait for the pixels, and reserves their memory until it has read them."""
        if self.ready is not None and self.pixels is not None:
            stream = torch.cuda.current_stream(self.pixels.device)
            stream.wait_event(self.ready)
            self.pixels.record_stream(stream)


class Loader:
    """Prepares images, and copies batches to a device.

    Args:
        device: device of the network.
        longest: longest side of resized images in pixels.
        multiple: both sides of resized images are multiples of this number of pixels.
        times: collects the seconds of the stages ``read``, ``decode``, and ``transfer``.
        gpu_decoding: whether to decode JPEGs on the GPU; no effect on the CPU.
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
        """Reads one image, see `glam.inference.decode.prepare`. Safe to call from several threads.

        Args:
            position: position of the image in the input, from 0.
            source: image to read, see `glam.images.read_image`.
            box: x1, y1, x2, y2 in pixels of the upright image; None for the full image.

        Raises:
            ImageError: the image cannot be read.
        """
        image = prepare(source, box, self.longest, self.multiple, self.times, defer_jpegs=self.defer_jpegs)
        return PreparedImage(position, image)

    @torch.inference_mode()
    def load(self, images: list[PreparedImage]) -> LoadedBatch:
        """Copies images of one size to the device. If the GPU cannot decode a JPEG, the CPU tries.

        Args:
            images: images of one size, at least one.

        Returns:
            The batch, and the images that cannot be read.
        """
        if self.stream is None:
            on_host = [self._on_host(image.decoded) for image in images]
            batch = on_host[0].unsqueeze(0) if len(on_host) == 1 else torch.stack(on_host)
            return LoadedBatch(images, batch, [], None)
        with torch.cuda.stream(self.stream):
            return self._copy_to_gpu(images, self.stream)

    def _copy_to_gpu(self, images: list[PreparedImage], stream: torch.cuda.Stream) -> LoadedBatch:
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
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(stream)
        return LoadedBatch(loaded, batch, failed, ready)

    def _decode(self, jpegs: dict[int, Jpeg], size: Size) -> dict[int, Tensor]:
        """Decodes JPEGs on the device, by position. If the batch fails, decodes one by one and leaves out bad files."""
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
        """Copies images, (h, w, 3) each, to the device: (b, h, w, 3)."""
        pinned = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=True)
        # NumPy copies in this thread. PyTorch would use a thread per core, and all cores are busy decoding.
        np.stack([image.numpy() for image in images], out=pinned.numpy())
        return pinned.to(self.device, non_blocking=True)

    def _stack(self, images: list[Tensor]) -> Tensor | None:
        if not images:
            return None
        # cuDNN prepares every convolution for each new shape, and powers of two keep the number of shapes small.
        padded_count = 1 << (len(images) - 1).bit_length()
        return torch.stack(images + images[-1:] * (padded_count - len(images)))
