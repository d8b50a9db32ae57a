"""Tiny images with fixed bytes: enough for an index with an IVF-PQ structure, and no files in the repository."""

import hashlib
import os
from pathlib import Path

COUNT = 1000
"""With the other images, more than the 1000 from which an index gets a saved search structure."""

MODIFIED = 1_700_000_000_000_000_000
"""Modification time of every fixture photo, in nanoseconds: as recorded in the indexes, and older than any checkout."""


def write_filler(folder: Path) -> None:
    """Writes `COUNT` images of 8 x 8 random pixels, the same bytes on every machine.

    Args:
        folder: created; gets the files 0000.ppm, 0001.ppm, ...
    """
    folder.mkdir(parents=True)
    for i in range(COUNT):
        pixels = hashlib.shake_128(f"filler {i}".encode()).digest(8 * 8 * 3)
        (folder / f"{i:04}.ppm").write_bytes(b"P6\n8 8\n255\n" + pixels)
    set_modified(folder)


def set_modified(folder: Path) -> None:
    """Sets the modification time of every file below a folder to `MODIFIED`."""
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(MODIFIED, MODIFIED))
