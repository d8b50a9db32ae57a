"""Decoding at a reduced size, which saves time and memory where far fewer pixels are needed than a file has."""

import math
from typing import Any, cast

from PIL import Image, Jpeg2KImagePlugin, JpegImagePlugin

OVERSAMPLING = 2
"""A reduced image keeps at least this many times the pixels needed on its longest side, so that resizing it can still
smooth it (Pillow's own default for thumbnails)."""

_SIZE_MARKER, _CODING_MARKER = b"\xff\x4f\xff\x51", b"\xff\x52"
"""Markers at the start of a JPEG 2000 codestream, and of its coding style; ISO/IEC 15444-1, A.5.1 and A.6.1."""

_LEVELS_OFFSET = 9
"""Offset of the number of decomposition levels from `_CODING_MARKER`."""

_HEADER_BYTES = 1 << 16
"""Bytes that are looked through for the markers; arbitrary."""


def reduce_on_decode(image: Image.Image, longest: int) -> None:
    """Asks the decoder of a JPEG or JPEG 2000 for a reduced size, if the image is far larger than needed.

    Args:
        image: image opened by Pillow, not decoded. Other formats are not changed.
        longest: longest side in pixels that is needed.
    """
    needed = OVERSAMPLING * longest / max(image.size)
    if needed >= 1:
        return
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        width, height = (max(1, math.ceil(needed * side)) for side in image.size)
        image.draft(None, (width, height))
    elif isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        most = min(_levels(image), int(math.log2(1 / needed)))
        exact = (level for level in range(most, 0, -1) if all(_is_exact(side, level) for side in image.size))
        cast(Any, image).reduce = next(exact, 0)


def _levels(image: Image.Image) -> int:
    """Number of decomposition levels of a JPEG 2000, which halve its size one by one; 0 if they are not found."""
    file = cast(Any, image).fp
    place = file.tell()
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    file.seek(place)
    start = head.find(_SIZE_MARKER)
    coding = head.find(_CODING_MARKER, start) + _LEVELS_OFFSET if start >= 0 else -1
    return head[coding] if _LEVELS_OFFSET <= coding < len(head) else 0


def _is_exact(side: int, level: int) -> bool:
    """Whether Pillow rounds a reduced side to the same number as the decoder, which rounds up."""
    return -(-side >> level) == (side + (1 << level >> 1)) >> level
