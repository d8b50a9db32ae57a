"""Bringing batches of images to the device of the network, beside its work."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glam.errors import ImageError
from glam.images import Box, ImageSource
from glam.inference.decode import DecodedImage, Jpeg, decoded_jpegs, prepare
from glam.sizes import Size
from glam.stage_times import Times


@dataclass(frozen=True)
class Row:
    """An image and its position in the input."""

    position: int
    image: DecodedImage


@dataclass(frozen=True)
class Loaded:
    """A batch on the device.

    Attributes:
        rows: one for each image, in order.
        images: (b, h, w, 3) uint8; on a GPU b is a power of two, the last image fills it up. None without rows.
        failed: what turned out to be unreadable.
        ready: on a GPU, when the images are there.
    """

    rows: list[Row]
    images: Tensor | None
    failed: list[tuple[Row, ImageError]]
    ready: torch.cuda.Event | None

    def arrive(self) -> None:
        """Makes the current stream of a GPU wait for the images, and their memory for the stream."""
        if self.ready is not None and self.images is not None:
            stream = torch.cuda.current_stream(self.images.device)
            stream.wait_event(self.ready)
            self.images.record_stream(stream)


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
        self.leave_jpegs = gpu_decoding and device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def prepare(self, position: int, source: ImageSource, box: Box | None) -> Row:
        """Reads one image, see `glam.inference.decode.prepare`.

        Raises:
            ImageError: it cannot be read.
        """
        image = prepare(source, box, self.longest, self.multiple, self.times, leave_jpegs=self.leave_jpegs)
        return Row(position, image)

    @torch.inference_mode()
    def load(self, rows: list[Row]) -> Loaded:
        """Brings images of one size to the device; what cannot be decoded there is tried once more on the CPU."""
        if self.stream is None:
            return self._load(rows)
        with torch.cuda.stream(self.stream):
            return self._load(rows)

    def _load(self, rows: list[Row]) -> Loaded:
        size = rows[0].image.size
        failed: list[tuple[Row, ImageError]] = []
        pixels: dict[int, Tensor] = {}
        jpegs = {row.position: row.image.jpeg for row in rows if row.image.jpeg is not None}
        if jpegs:
            with self.times.stage("decode"):
                pixels = self._decoded(jpegs, size)
        with self.times.stage("transfer"):
            on_host = []
            for row in rows:
                if row.position in pixels:
                    continue
                try:
                    on_host.append((row.position, self._on_host(row.image)))
                except ImageError as error:
                    failed.append((row, error))
            if on_host:
                there = self._sent([image for _, image in on_host])
                pixels.update(zip((position for position, _ in on_host), there, strict=True))
            readable = [row for row in rows if row.position in pixels]
            images = self._stacked([pixels[row.position] for row in readable])
        ready = None
        if self.stream is not None:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self.stream)
        return Loaded(readable, images, failed, ready)

    def _decoded(self, jpegs: dict[int, Jpeg], size: Size) -> dict[int, Tensor]:
        """JPEGs decoded on the device, by position; where one fails each is tried alone, and those that fail are left
        out."""
        try:
            return dict(zip(jpegs, decoded_jpegs(list(jpegs.values()), size, self.device), strict=True))
        except RuntimeError:
            if len(jpegs) == 1:
                return {}
            alone = (self._decoded({position: jpeg}, size) for position, jpeg in jpegs.items())
            return {position: image for one in alone for position, image in one.items()}

    def _on_host(self, image: DecodedImage) -> Tensor:
        if image.pixels is None:
            image = prepare(image.source, image.box, self.longest, self.multiple, self.times)
        assert image.pixels is not None
        return image.pixels

    def _sent(self, images: list[Tensor]) -> Tensor:
        """(h, w, 3) each to (b, h, w, 3) on the device."""
        if self.stream is None:
            return images[0].unsqueeze(0) if len(images) == 1 else torch.stack(images)
        pinned = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=True)
        # NumPy copies in this thread; PyTorch would call up as many as there are cores, all of which decode just now.
        np.stack([image.numpy() for image in images], out=pinned.numpy())
        return pinned.to(self.device, non_blocking=True)

    def _stacked(self, images: list[Tensor]) -> Tensor | None:
        if not images:
            return None
        if self.stream is None:
            return images[0].unsqueeze(0) if len(images) == 1 else torch.stack(images)
        # cuDNN prepares every convolution anew for each shape that it meets; whole powers of two keep shapes few.
        filled = 1 << (len(images) - 1).bit_length()
        return torch.stack(images + images[-1:] * (filled - len(images)))
