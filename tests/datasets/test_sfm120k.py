"""SfM-120k, and malicious or damaged pickles."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from glam.datasets.collection import ImageFile
from glam.datasets.pickles import read_plain_pickle
from glam.datasets.readers import read_collection
from glam.errors import GlamError

CIDS = ["9a1f0000000000000000000000abcdef", "9a1f00000000000000000000001234ff", "9a1f0000000000000000000000123456"]


def table() -> dict[str, Any]:
    return {
        "train": {"cids": CIDS[:2], "cluster": [3, 3], "gps": [], "qidxs": [0], "pidxs": [1]},
        "val": {"cids": CIDS[2:], "cluster": [8], "gps": [], "qidxs": [], "pidxs": []},
    }


def write(folder: Path, value: object, name: str = "retrieval-SfM-120k.pkl") -> Path:
    file = folder / name
    file.write_bytes(pickle.dumps(value))
    return file


def test_each_part_gives_its_paths_and_models(tmp_path: Path) -> None:
    file = write(tmp_path, table())
    train, val = read_collection(f"{file}:train"), read_collection(f"{tmp_path}:val")
    assert train.root == tmp_path / "ims"
    assert train.images == (ImageFile(f"ef/cd/ab/{CIDS[0]}", "3"), ImageFile(f"ff/34/12/{CIDS[1]}", "3"))
    assert val.images == (ImageFile(f"56/34/12/{CIDS[2]}", "8"),)


def test_a_part_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="has two parts"):
        read_collection(write(tmp_path, table()))


@pytest.mark.parametrize(
    "part",
    [
        {"cids": CIDS, "cluster": [1]},
        {"cids": CIDS},
        {"cids": 5, "cluster": 5},
        [],
        {"cids": ["......"], "cluster": [1]},
        {"cids": ["/etc/passwd"], "cluster": [1]},
        {"cids": [7], "cluster": [1]},
    ],
)
def test_a_table_of_another_make_is_refused(tmp_path: Path, part: object) -> None:
    file = write(tmp_path, {"train": part, "val": part})
    with pytest.raises(GlamError, match=r"has no lists|is not the name of an image"):
        read_collection(f"{file}:train")


def test_another_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="neither SfM-120k nor"):
        read_collection(write(tmp_path, {"a": 1}))


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["retrieval-SfM-120k.pkl", "gnd_roxford5k.pkl"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_nothing_of_it_runs(tmp_path: Path, name: str, protocol: int) -> None:
    trace = tmp_path / "it_ran"
    file = tmp_path / name
    file.write_bytes(pickle.dumps({"train": Malicious(trace), "imlist": []}, protocol))
    with pytest.raises(GlamError, match="only plain values"):
        read_collection(f"{file}:train" if "SfM" in name else file)
    assert not trace.exists()
    pickle.loads(file.read_bytes())  # the standard unpickler does run the same bytes
    assert trace.exists()


@pytest.mark.parametrize("value", [complex(1, 2), {1, Path()}, Path(), range(3)])
def test_even_harmless_classes_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(GlamError, match="only plain values"):
        read_plain_pickle(write(tmp_path, value))


def test_no_cut_of_a_pickle_ends_in_anything_but_a_clear_error(tmp_path: Path) -> None:
    whole = write(tmp_path, table()).read_bytes()
    cut = tmp_path / "cut.pkl"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(GlamError, match=r"cut\.pkl"):
            read_plain_pickle(cut)


def test_bytes_that_are_no_pickle_are_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "page.pkl"
    for content in (b"<html>not found</html>", bytes(range(256)), b"\x80\x04" + b"\xff" * 40, b"(" * 100 + b"."):
        file.write_bytes(content)
        with pytest.raises(GlamError, match="not a pickle"):
            read_plain_pickle(file)
