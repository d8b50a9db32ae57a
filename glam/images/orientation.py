"""Orientation: how a stored image is turned upright, and its size afterwards."""

from contextlib import suppress

from PIL import Image

from glam.images.deep_color import load_pixels

ORIENTATION = 0x0112
"""EXIF and TIFF tag of the orientation."""

TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns stored pixels upright, by orientation."""

_METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Entries of `Image.info` that may hold the orientation."""

_STORED_WIDTH, _STORED_HEIGHT = 256, 257
"""TIFF tags of the size before the orientation is applied."""


def orientation(image: Image.Image) -> int:
    """Returns the orientation of an opened image, 1 to 8; 1 if none or no valid one is stored."""
    value = 1
    with suppress(Exception):  # damaged EXIF data do not spoil the picture
        value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_turned(image: Image.Image) -> bool:
    """Returns whether turning an opened image upright will swap its sides."""
    return orientation(image) in (5, 6, 7, 8)


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


def turn_upright(image: Image.Image, *, in_place: bool = False) -> Image.Image:
    """Decodes an image and turns it upright by its orientation.

    Args:
        image: image opened by Pillow.
        in_place: whether ``image`` was opened for this call, so that the result may be ``image`` itself.

    Raises:
        ValueError: the image was opened for this call, and its pixels have another size than its header says.
    """
    expected = upright_size(image)  # reads the EXIF data before the pixels: decoding a PNG could add to them
    load_pixels(image)
    turn = TURN.get(orientation(image))  # of a TIFF, Pillow has turned the pixels by now, and removed the orientation
    turned = image if turn is None else image.transpose(turn)
    if turn is not None:
        for key in _METADATA:
            turned.info.pop(key, None)
    if not in_place:
        return image.copy() if turned is image else turned
    if turned.size != expected and image.format != "JPEG2000":  # which `draft` reduces, and whose decoder checks it
        raise ValueError("{} x {} pixels, not the {} x {} of its header".format(*turned.size, *expected))
    return turned
