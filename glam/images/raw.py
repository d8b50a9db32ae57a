"""RAW photos: recognized by their content, and read by the preview that the camera stores in them.

The preview is what the camera's screen shows: a JPEG, mostly of the full size. Developing the sensor's data instead
would take seconds per photo, and would give other colors than the photographer saw.
"""

import io
from importlib import import_module
from typing import BinaryIO

from PIL import Image

RAW_HEADS = (
    (0, b"FUJIFILMCCD-RAW"),
    (4, b"ftypcrx "),  # Canon CR3
    (8, b"CR\x02"),  # Canon CR2
    (6, b"HEAPCCDR"),  # Canon CRW
    (0, b"IIRO"),  # Olympus
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\x00"),  # Panasonic
    (0, b"FOVb"),  # Sigma
    (0, b"\x00MRM"),  # Minolta
)
"""Bytes at the start of RAW files, with their offsets; from LibRaw's identify.cpp."""

_NEW_SUBFILE_TYPE, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 259, 262, 271, 330, 50706
"""TIFF tags."""

_REDUCED = 1
"""Value of `_NEW_SUBFILE_TYPE` if the first image is a reduced version of another."""

_SENSOR_DATA = (32803, 34892)
"""Values of `_PHOTOMETRIC` for the data of a sensor: color filter array and linear raw."""

_MAKERS_COMPRESSIONS = (32767, 32769, 32770, 34713, 65535)
"""Compressions that makers of cameras defined for sensor data: Sony, Epson, Samsung, Nikon, Pentax."""

_ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}
"""EXIF orientation for LibRaw's way to turn a photo upright: by 180 degrees, to the left, or to the right."""


def is_raw_head(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a RAW photo that is no TIFF."""
    return any(head[offset : offset + len(magic)] == magic for offset, magic in RAW_HEADS)


def is_raw_tiff(image: Image.Image) -> bool:
    """Whether an opened image is the first one in a RAW photo based on TIFF, such as DNG, NEF, or ARW.

    Args:
        image: image opened by Pillow.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return False
    is_reduced = tags.get(_NEW_SUBFILE_TYPE) == _REDUCED
    return (
        _DNG_VERSION in tags
        or tags.get(_PHOTOMETRIC) in _SENSOR_DATA
        or tags.get(_COMPRESSION) in _MAKERS_COMPRESSIONS
        or (is_reduced and _SUB_IFDS in tags and _MAKE in tags)
    )


def open_preview(file: BinaryIO) -> Image.Image:
    """Opens the preview of a RAW photo, with the orientation of the photo.

    Args:
        file: the RAW photo, open for reading at its start.

    Returns:
        Pillow image, not decoded yet if it is a JPEG.

    Raises:
        Exception: LibRaw cannot read the file, or it has no preview.
    """
    rawpy = import_module("rawpy")
    with rawpy.imread(file) as photo:
        preview, flip = photo.extract_thumb(), photo.sizes.flip
    image: Image.Image
    if preview.format == rawpy.ThumbFormat.JPEG:
        image = Image.open(io.BytesIO(preview.data), formats=("JPEG",))
    else:
        image = Image.fromarray(preview.data)
    image.format = "RAW"
    exif = image.getexif()
    if 0x0112 not in exif and flip in _ORIENTATION_OF_FLIP:
        exif[0x0112] = _ORIENTATION_OF_FLIP[flip]
    return image
