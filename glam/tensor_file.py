"""Memory-mapped arrays in safetensors files, to read and to fill.

The header is read and written here, because the safetensors package does not say where in a file an array begins: it
copies arrays, or needs PyTorch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""The element types that are mapped, by their names in a header."""


@dataclass(frozen=True)
class TensorEntry:
    """One array of a file, as its header says.

    Attributes:
        dtype: element type, as safetensors names it.
        shape: of the array.
        offset: of its first byte in the file.
        length: number of its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Reads which arrays a file holds, and its metadata.

    Raises:
        OSError: the file cannot be read.
        ValueError, KeyError, TypeError, AttributeError: it is not a safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None) or {}
    entries = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        entries[name] = TensorEntry(entry["dtype"], tuple(entry["shape"]), 8 + length + start, end - start)
    return entries, metadata


def map_tensor(path: Path, entry: TensorEntry, mode: Literal["r", "c"]) -> NDArray[Any]:
    """Memory-maps one array.

    Args:
        path: of the file.
        entry: the array, from `read_header`.
        mode: ``r`` for a read-only array, ``c`` for one that is copied on write.

    Raises:
        OSError: the file cannot be read.
        ValueError: its element type is not in `DTYPES`, or its shape does not fit its bytes.
    """
    if entry.dtype not in DTYPES:
        raise ValueError(f"numbers of type {entry.dtype}, where float16, float32 or float64 are read")
    dtype = np.dtype(DTYPES[entry.dtype])
    if entry.length != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"its shape {entry.shape} does not fit its {entry.length} bytes")
    return memory_map(path, dtype, entry.offset, entry.shape, mode)


def memory_map(
    path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], mode: Literal["r", "r+", "c"]
) -> NDArray[Any]:
    """Memory-maps part of a file; an empty array needs no map.

    Args:
        path: of the file.
        dtype: element type.
        offset: of the first byte.
        shape: of the array.
        mode: as of `numpy.memmap`.
    """
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode=mode, offset=offset, shape=shape)


def create_tensor_file(path: Path, name: str, shape: tuple[int, ...], metadata: Mapping[str, str]) -> NDArray[Any]:
    """Creates a file of one float32 array of zeros, memory-mapped to be filled.

    Args:
        path: of the file.
        name: of the array.
        shape: of the array.
        metadata: goes into the header.

    Raises:
        OSError: the file cannot be written.
    """
    length = 4 * math.prod(shape)
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, length]}
    header = json.dumps({"__metadata__": metadata, name: entry}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + length)
    return memory_map(path, np.dtype(DTYPES["F32"]), 8 + len(header), shape, "r+")
