"""Image sizes: what an image is resized to, so that like images share one size and none is ever padded."""

Size = tuple[int, int]
"""(height, width) in pixels."""


def fitted_size(width: int, height: int, longest: int, multiple: int) -> Size:
    """The size an image is described at: longest side at most ``longest``, aspect ratio kept, never enlarged.

    Both sides are rounded to multiples of ``multiple``, which moves the aspect ratio by a few percent at most and
    leaves few distinct sizes, so that batches form. The rounding depends on the image alone, never on its batch.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        longest: in pixels.
        multiple: in pixels, at least 1.
    """
    scale = min(1.0, longest / max(width, height))
    return scaled_size((height, width), scale, multiple)


def scaled_size(size: Size, scale: float, multiple: int) -> Size:
    """``size`` times ``scale``, both sides rounded to multiples of ``multiple`` (at least one)."""
    height, width = (max(1, round(side * scale / multiple)) * multiple for side in size)
    return height, width
