"""Image reading, the one intake of all commands: files, header, limits, decoding, and conversion to upright 8-bit RGB.

    path or bytes --regular_file--> bytes --header: formats, limits--> opened image --rgb--> upright RGB: `read_image`

Only the formats of `glam.images.formats` are read, and only from regular files. Any exception of a decoder becomes an
`ImageError`.
"""

from glam.images.boxes import Box, crop_image, pixel_box
from glam.images.formats import FORMATS, IMAGE_SUFFIXES, NEEDS_EXTRA, SAME_AS, SUFFIX_OF, list_formats
from glam.images.header import open_image, read_upright_size
from glam.images.limits import MAX_BYTES, MAX_PIXELS
from glam.images.orientation import ORIENTATION, is_turned, orientation, turn_upright, upright_size
from glam.images.reader import read_image
from glam.images.reduction import draft
from glam.images.regular_file import open_regular_file, read_regular_file
from glam.images.rgb import to_rgb
from glam.images.source import ImageSource, image_errors, is_image_source, source_name

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "NEEDS_EXTRA",
    "ORIENTATION",
    "SAME_AS",
    "SUFFIX_OF",
    "Box",
    "ImageSource",
    "crop_image",
    "draft",
    "image_errors",
    "is_image_source",
    "is_turned",
    "list_formats",
    "open_image",
    "open_regular_file",
    "orientation",
    "pixel_box",
    "read_image",
    "read_regular_file",
    "read_upright_size",
    "source_name",
    "to_rgb",
    "turn_upright",
    "upright_size",
]
