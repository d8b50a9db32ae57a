"""Decoding at a reduced size, which saves time and memory where far fewer pixels are needed than a file has."""

import math
from typing import Any, cast

from PIL import Image, Jpeg2KImagePlugin, JpegImagePlugin

_SIZE_MARKER, _CODING_MARKER = b"\xff\x4f\xff\x51", b"\xff\x52"
"""Markers at the start of a JPEG 2000 codestream, and of its coding style; ISO/IEC 15444-1, A.5.1 and A.6.1."""

_LEVELS_OFFSET = 9
"""Offset of the number of decomposition levels from `_CODING_MARKER`."""

_HEADER_BYTES = 1 << 16
"""Bytes that are looked through for the markers; arbitrary."""


def draft(image: Image.Image, reduce_to: int) -> None:
    """Asks the decoder of a JPEG or JPEG 2000 for a reduced size.

    Args:
        image: image opened by Pillow, not decoded. Other formats are not changed.
        reduce_to: pixels that the longest side has at least afterwards, unless it has fewer now.
    """
    scale = reduce_to / max(image.size)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (max(1, round(scale * image.width)), max(1, round(scale * image.height))))
    elif isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) and 0 < scale < 1:
        most = min(_levels(image), int(math.log2(1 / scale)))
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
