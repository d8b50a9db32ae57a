"""TIFF pages: the first one that is a full picture."""

from contextlib import suppress

from PIL import TiffImagePlugin

NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255
"""Tags of what a page is."""

_REDUCED_OR_MASK = 1 | 4
"""Bits of `NEW_SUBFILE_TYPE`: a reduced version of another page, and a transparency mask."""

_OLD_REDUCED = 2
"""Value of `_SUBFILE_TYPE` for a reduced version."""

_THUMBNAIL = 512
"""Longest side in pixels of a page that may be a thumbnail without saying so; arbitrary."""

_PAGES = 16
"""Pages that are looked at; arbitrary."""


def seek_full_page(image: TiffImagePlugin.TiffImageFile) -> None:
    """Seeks to the first page that is not a reduced version or a mask of another page.

    A small first page also counts as reduced if a later page has its aspect ratio and at least twice its size. If all
    pages are reduced, the first one stays.

    Args:
        image: TIFF opened by Pillow, not decoded.
    """
    first = image.size
    is_full = not _is_marked(image)
    if is_full and max(first) > _THUMBNAIL:
        return
    page = 0
    with suppress(Exception):  # the end, or a damaged page, which does not spoil the first one
        for number in range(1, _PAGES):
            image.seek(number)
            if not _is_marked(image) and (not is_full or _is_larger_version(image.size, first)):
                page = number
                break
    image.seek(page)


def _is_marked(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether the current page says that it is a reduced version or a mask."""
    tags = image.tag_v2
    kind = tags.get(NEW_SUBFILE_TYPE, 0)
    return (isinstance(kind, int) and bool(kind & _REDUCED_OR_MASK)) or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED


def _is_larger_version(size: tuple[int, int], small: tuple[int, int]) -> bool:
    """Whether a size is at least twice a small one, at the same aspect ratio up to a pixel of the small one."""
    error = abs(size[0] * small[1] - size[1] * small[0])
    return size[0] >= 2 * small[0] and size[1] >= 2 * small[1] and error <= max(size)
