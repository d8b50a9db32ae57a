"""Readers of descriptor files: .npy, .npz, .safetensors, and, if h5py is installed, HDF5.

Files are memory-mapped, except .npz and compressed HDF5. The maps are copy-on-write: PyTorch requires writable arrays,
and nothing is written to the file.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glam.errors import GlamError
from glam.eval.tie_break import Descriptors
from glam.tensor_file import TensorEntry, map_tensor, memory_map, read_header

HDF5_SUFFIXES = (".h5", ".hdf5")


def read_descriptors(source: str, role: str) -> Descriptors:
    """Reads descriptors from a file.

    Args:
        source: path of the file, optionally followed by ``:NAME`` to choose one of several arrays. Without a name, the
            only array is read, or the one named like ``role``.
        role: ``queries``, ``database``, or ``distractors``.

    Returns:
        (n, dim) float16, float32, or float64.

    Raises:
        GlamError: the file or the array does not exist, the format is unknown, the file is damaged, or the array is not
            a matrix of floating-point numbers.
    """
    path, name = _split(source)
    if not path.is_file():
        raise GlamError(f"{path}: no such file. Check the path.")
    try:
        descriptors = _read(path, name, role)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise GlamError(
            f"{path}: the descriptors cannot be read ({error}). Write the file again, or use another format."
        ) from error
    if descriptors.ndim != 2 or descriptors.dtype.kind != "f" or descriptors.dtype.itemsize > 8:
        raise GlamError(
            f"{path} holds {descriptors.dtype} of shape {descriptors.shape}. "
            "Write descriptors as float16, float32, or float64 of shape (n, dim)."
        )
    return descriptors if descriptors.dtype.isnative else descriptors.astype(descriptors.dtype.newbyteorder("="))


def _split(source: str) -> tuple[Path, str | None]:
    path, colon, name = source.rpartition(":")
    return (Path(path), name) if colon and path and not Path(source).exists() else (Path(source), None)


def _read(path: Path, name: str | None, role: str) -> Descriptors:
    suffix = path.suffix.lower()
    array: Descriptors
    if suffix == ".npy":
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        return array
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            array = _choose_array(arrays, name, role, path)
        return array
    if suffix == ".safetensors":
        return _read_safetensors(path, name, role)
    if suffix in HDF5_SUFFIXES:
        return _read_hdf5(path, name, role)
    raise GlamError(f"{path} has an unknown suffix. Use a .npy, .npz, .safetensors, or .h5 file.")


def _choose_array(arrays: Mapping[str, Any], name: str | None, role: str, path: Path) -> Any:
    """The array of a file that is called ``name`` or, without a name, the only one or the one called like ``role``."""
    names = sorted(arrays)
    chosen = name or (names[0] if len(names) == 1 else role)
    if chosen not in names:
        raise GlamError(f"{path} has no array {chosen!r}, only {', '.join(names)}. Choose one with {path.name}:NAME.")
    return arrays[chosen]


def _read_safetensors(path: Path, name: str | None, role: str) -> Descriptors:
    entry: TensorEntry = _choose_array(read_header(path)[0], name, role, path)
    descriptors: Descriptors = map_tensor(path, entry, "c")
    return descriptors


def _read_hdf5(path: Path, name: str | None, role: str) -> Descriptors:
    try:
        import h5py
    except ImportError as error:
        raise GlamError(f"{path}: reading HDF5 files requires h5py. Run `pip install h5py`.") from error
    with h5py.File(path, "r") as file:
        data = _choose_array(file, name, role, path)
        if not isinstance(data, h5py.Dataset):
            raise GlamError(f"{path}: {name or role!r} is a group. Choose an array in it with {path.name}:GROUP/NAME.")
        offset = data.id.get_offset()  # None if the data are compressed
        array: Descriptors = data[:] if offset is None else memory_map(path, data.dtype, offset, data.shape, "c")
        return array
