"""What reading an image may do, whatever the file holds: return it or raise `ImageError`, within a bound of memory.

content --read_image, read_upright_size, prepare--> sizes that agree | ImageError, else `Fault`
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from glam.errors import ImageError
from glam.images import MAX_PIXELS, image_errors, open_image, read_image, read_upright_size
from glam.inference.decode import prepare
from glam.stage_times import Times

MIB = 1 << 20

FREE_MEMORY = 64 * MIB
"""Bytes of memory that reading any image may take; beyond them `COPIES` of the decoded pixels."""

COPIES = 4
"""Decoded images that may be in memory at once: decoded, turned upright, converted to RGB, and as an array."""

LONGEST, MULTIPLE = 64, 32
"""Longest side and multiple of the input of a network, in pixels; small, to be quick."""

NO_MEMORY = "not enough memory"
"""Part of the reason that `image_errors` gives after a `MemoryError`."""

REASON_CHARACTERS = 200
"""Most characters of a reason; arbitrary, so that a list of unreadable files has a line for each."""

Size = tuple[int, int]


class Fault(Exception):
    """Reading an image did what it must not do."""


def check_image(content: bytes, max_pixels: int = MAX_PIXELS) -> None:
    """Reads an image in the three ways of the product.

    Args:
        content: content of a file.
        max_pixels: pixels up to which the image is decoded, to limit the time. The header is always read.

    Raises:
        Fault: it took too much memory, a reason is not one short line, or the ways do not agree on the size.
        Exception: a way raised something other than an `ImageError`.
    """
    pixels, decoded = _header(content)
    bound = FREE_MEMORY + COPIES * decoded
    ways: list[Callable[[], Size]] = [
        lambda: read_upright_size(content),
        lambda: read_image(content, max_pixels=max_pixels).size,
    ]
    if pixels <= max_pixels:
        ways.append(lambda: _prepared_size(content))
    sizes = [_size(way, bound) for way in ways]
    known = {size for size in sizes if size is not None}
    if len(known) > 1:
        raise Fault(f"read_upright_size, read_image, and prepare do not agree on the size\n{sizes}")


def _size(way: Callable[[], Size], bound: int) -> Size | None:
    """The size of the image by one way of reading it; None if it cannot be read."""
    try:
        with memory_bound(bound):
            return way()
    except ImageError as error:
        if NO_MEMORY in error.reason:
            raise Fault(f"{error.reason}: the image was refused only after the memory was exhausted") from error
        if not error.reason.strip() or not error.reason.isprintable() or len(error.reason) > REASON_CHARACTERS:
            raise Fault(f"a reason that is no short line: {error.reason!r}") from error
        return None


def _prepared_size(content: bytes) -> Size:
    prepared = prepare(content, None, LONGEST, MULTIPLE, Times(), keep_full_size=True)
    return prepared.width, prepared.height


@contextmanager
def memory_bound(bound: int) -> Iterator[None]:
    """Measures the peak memory of the block.

    Args:
        bound: bytes that the block may take beyond what the process has. Not checked if the system does not tell.

    Raises:
        Fault: it took more.
    """
    before = _reset_peak()
    try:
        yield
    finally:
        after = _status("VmHWM")
    if before is not None and after is not None and after - before > bound:
        raise Fault(f"{(after - before) / MIB:.0f} MiB of memory, more than {bound / MIB:.0f} MiB")


def _header(content: bytes) -> tuple[int, int]:
    """Number of pixels and bytes of the decoded image that the header claims; both 0 if it cannot be read."""
    try:
        with image_errors(content):
            image = open_image(content)
            pixels = image.width * image.height
            return pixels, pixels * max(3, _bytes_per_pixel(image))
    except ImageError:
        return 0, 0


def _bytes_per_pixel(image: Image.Image) -> int:
    if image.mode in ("I", "F"):
        return 4
    return 2 if image.mode.startswith("I;16") else len(image.getbands())


def _reset_peak() -> int | None:
    """Sets the recorded peak of this process to its present memory, and returns that in bytes; Linux only."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(field: str) -> int | None:
    """A field of the state of this process, in bytes."""
    try:
        found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])
