"""`read_image`: reads an image from any source as upright 8-bit RGB."""

from PIL import Image

from glam.images.boxes import Box, crop_image
from glam.images.header import open_image
from glam.images.limits import MAX_PIXELS
from glam.images.orientation import turn_upright
from glam.images.reduction import draft
from glam.images.rgb import to_rgb
from glam.images.source import ImageSource, image_errors, source_name


def read_image(
    source: ImageSource,
    *,
    box: Box | None = None,
    max_pixels: int = MAX_PIXELS,
    reduce_to: int | None = None,
) -> Image.Image:
    """Reads an image, turns it upright by its EXIF orientation, and converts it to RGB.

    Transparent images are placed on white, 16-bit images are scaled to 8 bits by the bits that they use, and animations
    give their first frame.

    Args:
        source: path, content of an image file, Pillow image, or array, (h, w), (h, w, 1), (h, w, 3), or (h, w, 4), of
            uint8 in [0, 255], uint16 in [0, 65535], or floating point in [0, 1].
        box: part to return: x1, y1, x2, y2 in pixels of the upright image; None for the full image.
        max_pixels: maximum width times height.
        reduce_to: pixels of the longest side that the caller needs at least, see `draft`; None for the full size. Not
            together with ``box``.

    Returns:
        Pillow image in RGB, decoded.

    Raises:
        ImageError: the source cannot be read or is too large, or the box is empty or outside the image.
    """
    with image_errors(source):
        image = open_image(source, max_pixels)
        if reduce_to is not None and box is None and image is not source:
            draft(image, reduce_to)
        image = to_rgb(turn_upright(image, in_place=image is not source))
    return image if box is None else crop_image(image, box, source_name(source))
