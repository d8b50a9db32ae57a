"""Damaged files of an index: each operation works or raises one sentence, whatever the folder holds."""

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.index import verify
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.schema import CATALOG
from glam.index.storage.segments import segment_file
from tests.index.storage.foreign import files, use


def damaged(content: bytes, random: np.random.Generator) -> list[bytes]:
    """A content with flipped bits, zeros, other lengths, and nothing that makes sense."""
    start, end = sorted(random.integers(1, len(content) + 1, 2).tolist())
    flipped = bytearray(content)
    for offset in random.integers(0, len(content), 3).tolist():
        flipped[offset] ^= 1 << int(random.integers(8))
    return [
        b"",
        content[:start],
        content + content[:end],
        content[:start] + bytes(end - start) + content[end:],
        bytes(flipped),
        b"[" * 200_000,
        b'{"files": {"../../secret": "x", "a/b/c": 7}, "own": ""}',
        b'{"kind": "exact", "structure": "../x", "ids": "../y", "digests": {}}',
        b'{"pid": [], "host": {}, "command": 1, "since": null}',
    ]


@pytest.mark.parametrize("checksums", ["with checksums", "without"])
def test_any_damage_of_any_file_works_or_is_one_sentence(
    checksums: str, original: Path, photos: Path, tmp_path: Path, content_model: Any
) -> None:
    random = np.random.default_rng(0)
    for name, content in files(original).items():
        for i, spoilt in enumerate(damaged(content or b"?", random)):
            index = Path(shutil.copytree(original, tmp_path / "i.glam"))
            if checksums == "without":
                (index / CHECKSUMS).unlink()
            (index / name).write_bytes(spoilt)
            try:
                use(index, photos, content_model, ("verify", "search", "remove"))
            except Exception as error:
                raise AssertionError(f"{name}, damage {i}") from error
            shutil.rmtree(index)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere {path.name}"
    elsewhere.write_bytes(b"elsewhere")
    path.symlink_to(elsewhere)


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [make_folder, make_link, make_dangling_link, make_pipe])
def test_what_is_not_a_file_is_refused_and_stays(
    make: Callable[[Path], None], original: Path, photos: Path, tmp_path: Path, content_model: Any
) -> None:
    stray = [f"{folder}/stray" for folder in ("descriptors", "search", "rerank")]
    for name in (*files(original), "lock", *stray):
        index = Path(shutil.copytree(original, tmp_path / "i.glam"))
        path = index / name
        path.unlink(missing_ok=True)
        make(path)
        before = files(index)
        if name == CATALOG:
            before.pop(CATALOG, None)
        errors = use(index, photos, content_model)
        assert len(errors) >= 10, name
        after = files(index)
        assert all(after[other] == content for other, content in before.items()), name
        assert path.is_dir() or path.is_symlink() or path.is_fifo()
        if name != CATALOG:
            assert [problem.file for problem in verify(index).problems] == [name]
        shutil.rmtree(index)


@pytest.mark.parametrize("name", ["descriptors", "search", "rerank"])
def test_a_folder_that_is_a_link_is_refused(name: str, index: Path, photos: Path, content_model: Any) -> None:
    elsewhere = index.parent / name
    (index / name).rename(elsewhere)
    (index / name).symlink_to(elsewhere)
    before = files(elsewhere)
    assert all("a link" in error for error in use(index, photos, content_model))
    assert files(elsewhere) == before


def swap(index: Path) -> None:
    first, second = segment_file(index, 1), segment_file(index, 2)
    rows = min(first.stat().st_size, second.stat().st_size)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other[:rows] + one[rows:])
    second.write_bytes(one[:rows] + other[rows:])


def cut(index: Path) -> None:
    segment_file(index, 1).write_bytes(segment_file(index, 1).read_bytes()[:-1])


def delete(index: Path) -> None:
    segment_file(index, 1).unlink()


def empty(index: Path) -> None:
    segment_file(index, 1).write_bytes(b"")


def zero(index: Path) -> None:
    segment_file(index, 1).write_bytes(bytes(segment_file(index, 1).stat().st_size))


def infinite(index: Path) -> None:
    with segment_file(index, 1).open("r+b") as file:
        file.write(struct.pack("<f", float("inf")))


@pytest.mark.parametrize("checksums", ["with checksums", "without"])
@pytest.mark.parametrize("spoil", [swap, cut, delete, empty, zero, infinite])
def test_damaged_descriptors_are_refused_by_readers_and_writers(
    spoil: Callable[[Path], None], checksums: str, index: Path, photos: Path, content_model: Any
) -> None:
    spoil(index)
    if checksums == "without":
        (index / CHECKSUMS).unlink()
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 9  # all but `info` and `verify`
    assert all("descriptors/00000" in error and "damaged" in error for error in errors)
    assert files(index) == before
    assert any(problem.file.startswith("descriptors/") for problem in verify(index).problems)
