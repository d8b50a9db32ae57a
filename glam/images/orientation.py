"""Orientation: the size that an image has upright, and turning it there."""

from PIL import Image, ImageOps

ORIENTATION = 0x0112
"""EXIF and TIFF tag of the orientation."""

_STORED_WIDTH, _STORED_HEIGHT = 256, 257
"""TIFF tags of the size before the orientation is applied."""


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Returns the width and height in pixels that an opened image has after it is turned upright.

    Args:
        image: image opened by Pillow, decoded or not.
    """
    tags = getattr(image, "tag_v2", None)  # a TIFF, whose Pillow size is upright in some versions, stored in others
    if tags is not None and _STORED_WIDTH in tags and ORIENTATION in tags:
        width, height = tags[_STORED_WIDTH], tags[_STORED_HEIGHT]
        return (height, width) if is_turned(image) else (width, height)
    return image.size[::-1] if is_turned(image) else image.size


def is_turned(image: Image.Image) -> bool:
    """Returns whether turning an opened image upright will swap its sides."""
    return orientation(image) in (5, 6, 7, 8)


def orientation(image: Image.Image) -> int:
    """Returns the orientation of an opened image, 1 to 8; 1 if none or no valid one is stored."""
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn_upright(image: Image.Image, *, in_place: bool = False) -> Image.Image:
    """Decodes an image and turns it upright by its orientation.

    Args:
        image: image opened by Pillow.
        in_place: whether ``image`` was opened for this call and may be changed, which saves a copy.

    Raises:
        ValueError: the image was opened for this call, and its pixels have another size than its header says.
    """
    expected = upright_size(image)  # reads the EXIF data before the pixels: decoding a PNG could add to them
    image.load()
    if not in_place:
        return ImageOps.exif_transpose(image)
    ImageOps.exif_transpose(image, in_place=True)
    if image.size != expected:
        raise ValueError("{} x {} pixels, not the {} x {} of its header".format(*image.size, *expected))
    return image
