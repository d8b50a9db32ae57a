"""Image sizes: the size that an image is resized to, so that images can share a batch without padding."""

Size = tuple[int, int]
"""(height, width) in pixels."""


def fitted_size(width: int, height: int, longest: int, multiple: int) -> Size:
    """Returns the size to resize an image to: longest side at most ``longest``, same aspect ratio, never enlarged.

    Both sides are rounded to multiples of ``multiple``. This changes the aspect ratio by a few percent at most, and
    leaves few distinct sizes, so that batches fill. The size depends only on the image, not on its batch.

    Args:
        width: width of the image in pixels.
        height: height of the image in pixels.
        longest: maximum of the longest side in pixels.
        multiple: number of pixels that both sides are multiples of, at least 1.

    Returns:
        (height, width) in pixels.
    """
    scale = min(1.0, longest / max(width, height))
    return scaled_size((height, width), scale, multiple)


def scaled_size(size: Size, scale: float, multiple: int) -> Size:
    """Scales a size, and rounds both sides to multiples of a number.

    Args:
        size: (height, width) in pixels.
        scale: factor.
        multiple: number of pixels that both sides are multiples of, at least 1.

    Returns:
        (height, width) in pixels, both at least ``multiple``.
    """
    height, width = (max(1, round(side * scale / multiple)) * multiple for side in size)
    return height, width
