"""The descriptors of an index: one file of float32 rows, appended to, read through a memory map."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError

Rows = NDArray[np.float32]


def append(path: Path, row: int, rows: Rows) -> None:
    """Writes rows from row number ``row`` on, and returns once they are on the disk.

    What lies past ``row`` is the rest of a batch that the catalogue never heard of, and is written over.

    Args:
        path: of the file; made if it is not there.
        row: how many rows the catalogue knows.
        rows: (n, dim).
    """
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(row * rows.shape[1] * rows.itemsize)
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, count: int, dim: int) -> Rows:
    """The first ``count`` rows, (count, dim), memory-mapped.

    Raises:
        GlamError: the file is shorter than the catalogue says.
    """
    if count == 0:
        return np.empty((0, dim), dtype=np.float32)
    if not path.exists() or path.stat().st_size < count * dim * 4:
        raise GlamError(f"{path}: shorter than the {count} descriptors that the catalogue names; the index is damaged")
    return np.memmap(path, dtype="<f4", mode="r", shape=(count, dim))
