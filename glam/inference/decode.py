"""From files to pixels at the size of the network's input, as fast as each file allows.

    source --worker--> JPEG and as large as needed   its bytes, decoded by the worker, or on a GPU a batch at a time
                       JPEG and far larger           decoded by Pillow at 1/2, 1/4 or 1/8, see `DRAFT_OVERSAMPLING`
                       anything else                 read by Pillow, as `glam.images.read_image` does

What a decoder cannot read goes to Pillow, which has the last word on what is wrong with a file.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from glam.images import Box, ImageSource, image_errors, open_image, pixel_box, source_name, to_rgb
from glam.sizes import Size, fitted_size
from glam.stage_times import Times

ORIENTATION = 0x0112
"""EXIF tag."""

DRAFT_OVERSAMPLING = 3
"""A JPEG is decoded at a fraction where this many times the pixels needed are left a side. libjpeg blurs otherwise than
our resizing: with 1 the cosine to the full decode falls to 0.96, with 2 to 0.998, with 3 it stays above 0.999."""


class Jpeg(NamedTuple):
    """A whole JPEG file that any decoder reads.

    Attributes:
        content: (bytes,) uint8.
        orientation: by EXIF, 1 to 8.
        box: left, top, right, bottom in pixels of the upright image; None for all of it.
    """

    content: Tensor
    orientation: int
    box: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class DecodedImage:
    """An image that a worker is done with.

    Attributes:
        source: it was read from, and ``box``, the part of it.
        size: (h, w) of the network's input.
        width, height: of the upright image in pixels, before the box.
        pixels: (h, w, 3) uint8 at ``size``; None where ``jpeg`` is still to be decoded.
        jpeg: see ``pixels``.
        full_size: (height, width, 3) uint8, all pixels of the upright image, as `glam.images.read_image` gives them;
            None if `prepare` was not told to keep them, or decoded a JPEG at a fraction.
    """

    source: ImageSource
    box: Box | None
    size: Size
    width: int
    height: int
    pixels: Tensor | None
    jpeg: Jpeg | None
    full_size: Tensor | None = None


def prepare(
    source: ImageSource,
    box: Box | None,
    longest: int,
    multiple: int,
    times: Times,
    *,
    defer_jpegs: bool = False,
    keep_full_size: bool = False,
) -> DecodedImage:
    """Reads one image and brings it to its size.

    Args:
        source: see `glam.images.read_image`.
        box: x1, y1, x2, y2 in pixels of the upright image, or None for all of it.
        longest: of its sides afterwards, in pixels (`glam.sizes.fitted_size`).
        multiple: of pixels, that both sides become.
        times: receives ``read`` and ``decode``.
        defer_jpegs: leave JPEGs undecoded, for `decode_jpegs`, which decodes many at once.
        keep_full_size: keep all pixels in `DecodedImage.full_size`.

    Raises:
        ImageError: it cannot be read, or the box has no part in it.
    """
    with image_errors(source):
        with times.stage("read"):
            content = Path(source).read_bytes() if isinstance(source, (str, Path)) else source
        with times.stage("decode"):
            name = source_name(source)
            image = open_image(content, name=name)
            orientation = image.getexif().get(ORIENTATION, 1)
            turned = orientation in (5, 6, 7, 8)
            width, height = image.size[::-1] if turned else image.size
            area = None if box is None else pixel_box(box, width, height, name)
            across, down = (width, height) if area is None else (area[2] - area[0], area[3] - area[1])
            size = fitted_size(across, down, longest, multiple)
            prepared = DecodedImage(source, box, size, width, height, None, None)

            def fitted(pixels: Tensor) -> DecodedImage:
                kept = pixels if keep_full_size else None
                return replace(prepared, pixels=resize(_crop(pixels, area), size), full_size=kept)

            if isinstance(content, bytes) and image.format in ("JPEG", "MPO"):
                if area is None and _reduce_on_decode(image, size[::-1] if turned else size):
                    return replace(prepared, pixels=resize(_decode_with_pillow(image), size))
                if _is_plain_jpeg(image, content):
                    jpeg = Jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), orientation, area)
                    if defer_jpegs:
                        return replace(prepared, jpeg=jpeg)
                    with suppress(RuntimeError):  # Pillow says what is wrong with it, if anything is
                        return fitted(_decode_upright([jpeg], torch.device("cpu"))[0])
            return fitted(_decode_with_pillow(image))


def decode_jpegs(jpegs: Sequence[Jpeg], size: Size, device: torch.device) -> list[Tensor]:
    """Decodes JPEGs on a device (on a GPU with nvJPEG), turns them upright, cuts and resizes them.

    Args:
        jpegs: see `Jpeg`.
        size: (h, w) of all of them afterwards.
        device: where they are decoded and stay.

    Returns:
        (h, w, 3) uint8 each.

    Raises:
        RuntimeError: one of them cannot be decoded.
    """
    upright = _decode_upright(jpegs, device)
    return [resize(_crop(pixels, jpeg.box), size) for pixels, jpeg in zip(upright, jpegs, strict=True)]


def resize(pixels: Tensor, size: Size) -> Tensor:
    """Resizes (h, w, 3) uint8 with antialiasing, as Pillow and the training do; no change if it has that size."""
    if tuple(pixels.shape[:2]) == size:
        return pixels.contiguous()
    planes = pixels.permute(2, 0, 1).unsqueeze(0)
    if pixels.is_cuda:  # there is no such kernel for bytes
        planes = F.interpolate(planes.float(), size=size, mode="bilinear", antialias=True).round().clamp(0, 255).byte()
    else:
        planes = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return planes[0].permute(1, 2, 0).contiguous()


def _decode_upright(jpegs: Sequence[Jpeg], device: torch.device) -> list[Tensor]:
    """Decodes JPEGs on a device and turns them upright: (h, w, 3) uint8 each, without their boxes."""
    decoded = decode_jpeg([jpeg.content for jpeg in jpegs], ImageReadMode.RGB, device)
    return [
        _turn_upright(pixels.permute(1, 2, 0), jpeg.orientation) for pixels, jpeg in zip(decoded, jpegs, strict=True)
    ]


def _decode_with_pillow(image: Image.Image) -> Tensor:
    """Decodes an image that Pillow has opened and turns it upright: (h, w, 3) uint8."""
    return torch.from_numpy(np.array(to_rgb(ImageOps.exif_transpose(image))))


def _reduce_on_decode(image: Image.Image, size: Size) -> bool:
    """Tells libjpeg to decode at a fraction if enough is left for (h, w), as stored; returns whether it will."""
    before = image.size
    image.draft(None, (DRAFT_OVERSAMPLING * size[1], DRAFT_OVERSAMPLING * size[0]))
    return image.size != before


def _is_plain_jpeg(image: Image.Image, content: bytes) -> bool:
    """Whether it is a whole, plain JPEG: decoders on GPUs pass over missing ends and rare color spaces in silence."""
    return (
        image.mode in ("RGB", "L")
        and content.endswith(b"\xff\xd9")
        and image.info.get("adobe_transform", 1) == 1
        and not image.info.get("progressive")
    )


def _turn_upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turns (h, w, 3) pixels, as stored, upright by the EXIF orientation."""
    turned = pixels.transpose(0, 1) if orientation in (5, 6, 7, 8) else pixels
    flipped = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return turned.flip(flipped) if flipped else turned


def _crop(pixels: Tensor, area: tuple[int, int, int, int] | None) -> Tensor:
    return pixels if area is None else pixels[area[1] : area[3], area[0] : area[2]]
