"""Descriptor files of all formats, and files that are refused."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from glam.descriptor_files import map_descriptors
from glam.errors import GlamError
from glam.eval.descriptor_readers import read_descriptors
from glam.eval.tie_break import Descriptors


@pytest.fixture(params=[np.float16, np.float32, np.float64])
def descriptors(request: pytest.FixtureRequest) -> Descriptors:
    made: Descriptors = np.random.default_rng(0).random((7, 5)).astype(request.param)
    return made


def test_mapped_files_give_their_descriptors(descriptors: Descriptors, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", descriptors)
    save_file({"database": descriptors, "other": descriptors + 1}, tmp_path / "a.safetensors", metadata={"by": "me"})
    for source in ("a.npy", "a.safetensors", "a.safetensors:database"):
        read = read_descriptors(str(tmp_path / source), "database")
        assert isinstance(read, np.memmap)
        assert read.dtype == descriptors.dtype
        np.testing.assert_array_equal(read, descriptors)


def test_an_array_is_chosen_by_name_or_role_or_because_it_is_alone(descriptors: Descriptors, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", descriptors)
    np.savez(tmp_path / "two.npz", queries=descriptors, mine=descriptors + 1)
    np.testing.assert_array_equal(read_descriptors(str(tmp_path / "one.npz"), "database"), descriptors)
    np.testing.assert_array_equal(read_descriptors(str(tmp_path / "two.npz"), "queries"), descriptors)
    np.testing.assert_array_equal(read_descriptors(str(tmp_path / "two.npz:mine"), "queries"), descriptors + 1)
    with pytest.raises(GlamError, match=r"no array 'database', only mine, queries\. Choose one with two\.npz:NAME"):
        read_descriptors(str(tmp_path / "two.npz"), "database")


def test_hdf5_is_read_where_h5py_is_installed(descriptors: Descriptors, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = descriptors
        file.create_dataset("packed", data=descriptors, compression="gzip")
        file.create_group("group")
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(read_descriptors(f"{tmp_path}/a.h5:{name}", "queries"), descriptors)
    with pytest.raises(GlamError, match="is a group"):
        read_descriptors(f"{tmp_path}/a.h5:group", "queries")


def test_other_byte_orders_are_turned(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6, dtype=">f4").reshape(2, 3))
    assert read_descriptors(str(tmp_path / "a.npy"), "queries").dtype == np.float32


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", np.array([[{}]]), allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(GlamError, match=name):
            read_descriptors(str(tmp_path / name), "queries")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors"])
def test_damaged_files_are_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((9, 9)))
    np.savez(tmp_path / "a.npz", np.ones((9, 9)))
    save_file({"a": np.ones((9, 9))}, tmp_path / "a.safetensors")
    whole = (tmp_path / name).read_bytes()
    for size in (0, 5, 20, len(whole) - 400):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(GlamError, match=name):
            read_descriptors(str(tmp_path / name), "queries")


def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.ones(4))
    np.save(tmp_path / "whole.npy", np.ones((4, 4), dtype=np.int64))
    for name in ("flat.npy", "whole.npy"):
        with pytest.raises(GlamError, match=r"of shape \(n, dim\)"):
            read_descriptors(str(tmp_path / name), "queries")
    with pytest.raises(GlamError, match="no such file"):
        read_descriptors(str(tmp_path / "none.npy"), "queries")
    (tmp_path / "a.mat").touch()
    with pytest.raises(GlamError, match="has an unknown suffix"):
        read_descriptors(str(tmp_path / "a.mat"), "queries")


def test_other_element_types_in_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.ones((4, 4), dtype=np.int64)}, tmp_path / "a.safetensors")
    with pytest.raises(GlamError, match=r"a\.safetensors.*type I64"):
        read_descriptors(str(tmp_path / "a.safetensors"), "queries")


@pytest.mark.parametrize(
    "header", [b"[]", b'{"a": 3}', b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}']
)
def test_a_header_that_is_not_one_of_safetensors_is_told_in_one_sentence(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(GlamError, match=r"a\.safetensors"):
        read_descriptors(str(tmp_path / "a.safetensors"), "queries")
    with pytest.raises(GlamError, match=r"a\.safetensors"):
        map_descriptors(tmp_path / "a.safetensors")
