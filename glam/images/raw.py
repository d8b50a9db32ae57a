"""RAW photos: recognized by their content, and read by the preview that the camera stores in them.

The preview is what the camera's screen shows: a JPEG, mostly of the full size. Developing the sensor's data instead
would take seconds per photo, and would give other colors than the photographer saw.
"""

import io
from importlib import import_module
from typing import IO, BinaryIO, cast

from PIL import Image, TiffImagePlugin

from glam.images.orientation import ORIENTATION
from glam.images.tiff import NEW_SUBFILE_TYPE

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

_COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 259, 262, 271, 330, 50706
"""TIFF tags."""

_REDUCED = 1
"""Value of `NEW_SUBFILE_TYPE` if the first image is a reduced version of another."""

_SENSOR_DATA = (32803, 34892)
"""Values of `_PHOTOMETRIC` for the data of a sensor: color filter array and linear raw."""

_MAKERS_COMPRESSIONS = (32767, 32769, 32770, 34713, 65535)
"""Compressions that makers of cameras defined for sensor data: Sony, Epson, Samsung, Nikon, Pentax."""

_ORIENTATION_OF_FLIP = {1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
"""EXIF orientation by LibRaw's number of it."""

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF; those with a plus sign have 64-bit offsets."""


def is_raw(file: BinaryIO) -> bool:
    """Whether a file is a RAW photo: by its first bytes, or, if it is a TIFF such as DNG, NEF, or ARW, by its tags.

    Args:
        file: open for reading at its start, where this function leaves it.

    Raises:
        Exception: the tags of a TIFF cannot be read.
    """
    head = file.read(16)
    found = any(head[offset : offset + len(magic)] == magic for offset, magic in RAW_HEADS)
    if not found and head.startswith(_TIFF_HEADS):
        tags = TiffImagePlugin.ImageFileDirectory_v2(head if b"+" in head[:4] else head[:8])
        file.seek(tags.next)
        tags.load(cast(IO[bytes], file))
        found = _is_raw_tiff(tags)
    file.seek(0)
    return found


def _is_raw_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Whether the first image of a TIFF belongs to a RAW photo."""
    is_reduced = tags.get(NEW_SUBFILE_TYPE) == _REDUCED
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
    if ORIENTATION not in exif and flip in _ORIENTATION_OF_FLIP:
        exif[ORIENTATION] = _ORIENTATION_OF_FLIP[flip]
    return image
