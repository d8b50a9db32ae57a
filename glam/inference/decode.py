"""Image decoding: from files to pixels at the size of the network's input, by the fastest decoder for each file.

    JPEG of about the needed size   decoded by torchvision: in the worker, or on a GPU in batches
    JPEG that is much larger        decoded by Pillow at 1/2, 1/4, or 1/8 of its size, see `DRAFT_OVERSAMPLING`
    any other file                  decoded by Pillow, as in `glam.images.read_image`

If torchvision cannot decode a file, Pillow tries, and its error is the one reported.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from glam.images import (
    Box,
    ImageSource,
    image_errors,
    is_turned,
    open_image,
    orientation,
    pixel_box,
    read_regular_file,
    source_name,
    to_rgb,
    turn_upright,
    upright_size,
)
from glam.sizes import Size, fitted_size
from glam.stage_times import Times

DRAFT_OVERSAMPLING = 3
"""A JPEG is decoded at a reduced size if each side keeps at least this many times the pixels needed. libjpeg's
reduction blurs differently from `resize`: the cosine similarity to the descriptor of the full decode falls to 0.96 with
1, to 0.998 with 2, and stays above 0.999 with 3."""


class Jpeg(NamedTuple):
    """A complete JPEG file that every decoder reads.

    Attributes:
        content: content of the file, (bytes,), uint8.
        orientation: EXIF orientation, 1 to 8.
        box: left, top, right, bottom in pixels of the upright image; None for the full image.
    """

    content: Tensor
    orientation: int
    box: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class DecodedImage:
    """Result of `prepare`: an image at the size of the network's input, or a JPEG that is decoded later.

    Attributes:
        source: source of the image.
        box: x1, y1, x2, y2 in pixels of the upright image; None for the full image.
        size: (h, w) of the network's input in pixels.
        width: width of the upright image in pixels, before cropping.
        height: height of the upright image in pixels, before cropping.
        pixels: (h, w, 3), uint8; None if ``jpeg`` is still to be decoded.
        jpeg: undecoded JPEG; None if ``pixels`` is set.
        full_size: all pixels of the upright image, (height, width, 3), uint8, equal to `glam.images.read_image`; None
            if ``keep_full_size`` was off, or the JPEG was decoded at a reduced size.
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
    """Reads an image, turns it upright, crops it, and resizes it.

    Args:
        source: image to read, see `glam.images.read_image`.
        box: x1, y1, x2, y2 in pixels of the upright image; None for the full image.
        longest: longest side of the result in pixels, see `glam.sizes.fitted_size`.
        multiple: both sides of the result are multiples of this number of pixels.
        times: collects the seconds of the stages ``read`` and ``decode``.
        defer_jpegs: whether to leave JPEGs undecoded, so that `decode_jpegs` can decode a batch at once.
        keep_full_size: whether to keep all pixels in `DecodedImage.full_size`.

    Returns:
        The image, with ``pixels`` or, if it was deferred, with ``jpeg``.

    Raises:
        ImageError: the image cannot be read, or the box is empty or outside it.
    """
    with image_errors(source):
        with times.stage("read"):
            content = read_regular_file(source) if isinstance(source, (str, Path)) else source
        with times.stage("decode"):
            name = source_name(source)
            image = open_image(content, name=name)
            width, height = upright_size(image)
            area = None if box is None else pixel_box(box, width, height, name)
            across, down = (width, height) if area is None else (area[2] - area[0], area[3] - area[1])
            size = fitted_size(across, down, longest, multiple)
            prepared = DecodedImage(source, box, size, width, height, None, None)

            def fitted(pixels: Tensor) -> DecodedImage:
                kept = pixels if keep_full_size else None
                return replace(prepared, pixels=resize(_crop(pixels, area), size), full_size=kept)

            if isinstance(content, bytes) and image.format in ("JPEG", "MPO"):
                if area is None and _reduce_on_decode(image, size[::-1] if is_turned(image) else size):
                    return replace(prepared, pixels=resize(_decode_with_pillow(image, in_place=True), size))
                if _is_plain_jpeg(image, content):
                    jpeg = Jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), orientation(image), area)
                    if defer_jpegs:
                        return replace(prepared, jpeg=jpeg)
                    with suppress(RuntimeError):  # Pillow tries next
                        return fitted(_decode_upright([jpeg], torch.device("cpu"))[0])
            return fitted(_decode_with_pillow(image, in_place=image is not source))


def decode_jpegs(jpegs: Sequence[Jpeg], size: Size, device: torch.device) -> list[Tensor]:
    """Decodes JPEGs on a device (nvJPEG on a GPU), turns them upright, crops them, and resizes them.

    Args:
        jpegs: JPEGs to decode, with their boxes.
        size: (h, w) of the results in pixels.
        device: device that decodes, and holds the results.

    Returns:
        One tensor per JPEG, (h, w, 3), uint8.

    Raises:
        RuntimeError: one of the JPEGs cannot be decoded.
    """
    upright = _decode_upright(jpegs, device)
    return [resize(_crop(pixels, jpeg.box), size) for pixels, jpeg in zip(upright, jpegs, strict=True)]


def resize(pixels: Tensor, size: Size) -> Tensor:
    """Resizes an image with bilinear interpolation and antialiasing, as Pillow does.

    Args:
        pixels: image, (h, w, 3), uint8.
        size: (h, w) of the result in pixels.

    Returns:
        Resized image, (h, w, 3), uint8, contiguous.
    """
    if tuple(pixels.shape[:2]) == size:
        return pixels.contiguous()
    planes = pixels.permute(2, 0, 1).unsqueeze(0)
    if pixels.is_cuda:  # PyTorch has no CUDA kernel for uint8
        planes = F.interpolate(planes.float(), size=size, mode="bilinear", antialias=True).round().clamp(0, 255).byte()
    else:
        planes = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return planes[0].permute(1, 2, 0).contiguous()


def _decode_upright(jpegs: Sequence[Jpeg], device: torch.device) -> list[Tensor]:
    """Decodes JPEGs on a device and turns them upright, without cropping: (h, w, 3), uint8, each."""
    decoded = decode_jpeg([jpeg.content for jpeg in jpegs], ImageReadMode.RGB, device)
    return [
        _turn_upright(pixels.permute(1, 2, 0), jpeg.orientation) for pixels, jpeg in zip(decoded, jpegs, strict=True)
    ]


def _decode_with_pillow(image: Image.Image, *, in_place: bool) -> Tensor:
    """Decodes an image opened by Pillow, which may be changed ``in_place``, and turns it upright: (h, w, 3), uint8."""
    return torch.from_numpy(np.array(to_rgb(turn_upright(image, in_place=in_place))))


def _reduce_on_decode(image: Image.Image, size: Size) -> bool:
    """Asks libjpeg to decode at a reduced size, if that leaves enough pixels for ``size``.

    Args:
        image: JPEG opened by Pillow, not yet decoded.
        size: (h, w) needed in pixels, before the image is turned upright.

    Returns:
        Whether libjpeg will reduce the image.
    """
    before = image.size
    image.draft(None, (DRAFT_OVERSAMPLING * size[1], DRAFT_OVERSAMPLING * size[0]))
    return image.size != before


def _is_plain_jpeg(image: Image.Image, content: bytes) -> bool:
    """Returns whether a JPEG is complete and plain: GPU decoders silently ignore missing data and rare color spaces."""
    return (
        image.mode in ("RGB", "L")
        and content.endswith(b"\xff\xd9")
        and image.info.get("adobe_transform", 1) == 1
        and not image.info.get("progressive")
    )


def _turn_upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turns stored pixels, (h, w, 3), upright by the EXIF orientation."""
    turned = pixels.transpose(0, 1) if orientation in (5, 6, 7, 8) else pixels
    flipped = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return turned.flip(flipped) if flipped else turned


def _crop(pixels: Tensor, area: tuple[int, int, int, int] | None) -> Tensor:
    return pixels if area is None else pixels[area[1] : area[3], area[0] : area[2]]
