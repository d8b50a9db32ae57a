"""Reading descriptors from files: .npy, .npz, .safetensors and, where h5py is installed, HDF5.

Files are memory-mapped wherever their arrays lie in them as they are (not in .npz, nor in compressed HDF5). The maps
are copy-on-write: PyTorch wants arrays that could be written to, and nothing ever reaches the file.
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
    """Reads descriptors.

    Args:
        source: a path, with ``:NAME`` after it to choose an array of several. Without a name it is the only array, or
            else the one that is called like the role.
        role: what they are: ``queries``, ``database``, ``distractors``.

    Returns:
        (n, dim) float16, float32 or float64.

    Raises:
        GlamError: there is no such file or array, it is not of a known kind, or damaged, or not a table of
            floating-point numbers.
    """
    path, name = _split(source)
    if not path.is_file():
        raise GlamError(f"{path}: no such file")
    try:
        descriptors = _read(path, name, role)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise GlamError(f"{path}: the descriptors cannot be read: {error}") from error
    if descriptors.ndim != 2 or descriptors.dtype.kind != "f" or descriptors.dtype.itemsize > 8:
        raise GlamError(
            f"{path}: descriptors are numbers of shape (n, dim), not {descriptors.dtype} of shape {descriptors.shape}"
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
    raise GlamError(f"{path}: descriptors are read from .npy, .npz, .safetensors and .h5 files")


def _choose_array(arrays: Mapping[str, Any], name: str | None, role: str, path: Path) -> Any:
    """The array that was asked for, out of those of a file."""
    names = sorted(arrays)
    wanted = name or (names[0] if len(names) == 1 else role)
    if wanted not in names:
        raise GlamError(f"{path}: no array {wanted!r} in it, only {', '.join(names)}; choose one as {path.name}:NAME")
    return arrays[wanted]


def _read_safetensors(path: Path, name: str | None, role: str) -> Descriptors:
    entry: TensorEntry = _choose_array(read_header(path)[0], name, role, path)
    descriptors: Descriptors = map_tensor(path, entry, "c")
    return descriptors


def _read_hdf5(path: Path, name: str | None, role: str) -> Descriptors:
    try:
        import h5py
    except ImportError as error:
        raise GlamError(f"{path}: HDF5 files want the package h5py; `pip install h5py`") from error
    with h5py.File(path, "r") as file:
        data = _choose_array(file, name, role, path)
        if not isinstance(data, h5py.Dataset):
            raise GlamError(f"{path}: {name or role!r} is a group; choose an array in it as {path.name}:GROUP/NAME")
        offset = data.id.get_offset()
        whole: Descriptors = data[:] if offset is None else memory_map(path, data.dtype, offset, data.shape, "c")
        return whole
