"""Memory-mapped arrays in safetensors files, for reading and writing.

This module parses the header itself, because the safetensors package does not expose the offset of an array in the
file: it copies arrays, or needs PyTorch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from glam.strict_json import parse_json

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""NumPy types of the supported element types, by their names in a header."""


@dataclass(frozen=True)
class TensorEntry:
    """One array of a safetensors file, from its header.

    Attributes:
        dtype: element type by its safetensors name, such as ``F32``.
        shape: shape of the array.
        offset: offset of its first byte in the file.
        length: its length in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Reads the header of a safetensors file.

    Args:
        path: safetensors file.

    Returns:
        The arrays by name, and the metadata.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a safetensors file. KeyError, TypeError, and AttributeError mean the same.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = parse_json(file.read(length))
    metadata = header.pop("__metadata__", None) or {}
    entries = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        entries[name] = TensorEntry(entry["dtype"], tuple(entry["shape"]), 8 + length + start, end - start)
    return entries, metadata


def map_tensor(path: Path, entry: TensorEntry, mode: Literal["r", "c"]) -> NDArray[Any]:
    """Memory-maps one array.

    Args:
        path: safetensors file.
        entry: array, from `read_header`.
        mode: ``r`` for a read-only array, ``c`` for copy-on-write.

    Returns:
        Array of the shape and type of the entry.

    Raises:
        OSError: the file cannot be read.
        ValueError: the element type is not in `DTYPES`, the shape does not match the number of bytes, or the file ends
            before the array.
    """
    if entry.dtype not in DTYPES:
        raise ValueError(f"the array has type {entry.dtype}, but must have float16, float32, or float64")
    dtype = np.dtype(DTYPES[entry.dtype])
    if entry.length != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"the array has shape {entry.shape}, which does not match its {entry.length} bytes")
    if entry.offset + entry.length > path.stat().st_size:
        raise ValueError("the array ends after the file")
    return memory_map(path, dtype, entry.offset, entry.shape, mode)


def memory_map(
    path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], mode: Literal["r", "r+", "c"]
) -> NDArray[Any]:
    """Memory-maps part of a file as an array; an empty array is created in memory.

    Args:
        path: file to map.
        dtype: element type.
        offset: offset of the first byte in the file.
        shape: shape of the array.
        mode: mode of `numpy.memmap`: ``r`` for read-only, ``r+`` for read and write, ``c`` for copy-on-write.
    """
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode=mode, offset=offset, shape=shape)


def create_tensor_file(path: Path, name: str, shape: tuple[int, ...], metadata: Mapping[str, str]) -> NDArray[Any]:
    """Creates a safetensors file with one float32 array of zeros, and memory-maps the array for writing.

    Args:
        path: file to create or overwrite.
        name: name of the array.
        shape: shape of the array.
        metadata: metadata of the header.

    Returns:
        The array, memory-mapped for reading and writing.

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
