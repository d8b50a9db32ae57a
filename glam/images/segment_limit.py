"""Files whose header may be read only so many times: a few MB of tiny segments would keep a decoder busy for minutes.

Decoders read the header of an image segment by segment, in Python. The segments of images that programs write have some
hundred bytes at least, but those of a damaged or hostile file may have four.
"""

import math
import os
from typing import Any, BinaryIO

MIN_READS = 100_000
"""Reads that any file may take; a tenth of a second. Cameras write some hundred segments."""

BYTES_PER_READ = 512
"""Further bytes that allow another read. The chunks of PNG files have 4 KiB or more, and take five reads each."""


class CountedReads:
    """A file that may be read only so many times until its header has been read. All else is passed on to the file.

    Args:
        file: file open for reading, at any position.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        position = file.tell()
        self._left: float = MIN_READS + file.seek(0, os.SEEK_END) // BYTES_PER_READ
        file.seek(position)

    def read(self, size: int = -1) -> bytes:
        """Reads up to ``size`` bytes, or all that follow.

        Raises:
            OSError: the file was read too many times.
        """
        self._left -= 1
        if self._left < 0:
            raise OSError("too many tiny segments")
        return self._file.read(size)

    def end_header(self) -> None:
        """Lifts the limit; some decoders read their pixels one by one."""
        self._left = math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
