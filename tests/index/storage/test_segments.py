"""Segments: descriptors are on disk before the catalog lists them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.errors import GlamError
from glam.index import verify
from glam.index.storage import segments
from glam.index.storage.records import FileFacts, IndexConfig
from glam.index.writer import ImageToAdd, open_writer

DIM = 4
CONFIG = IndexConfig("model", "f" * 16, DIM, 64, (1.0,), "/photos")


@contextmanager
def recorded_flushes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Inode and size of each file or folder when it is flushed."""
    flushes: list[tuple[int, int]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        facts = os.fstat(descriptor)
        flushes.append((facts.st_ino, facts.st_size))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", record)
        yield flushes


def described(count: int, first: int) -> list[ImageToAdd]:
    rows = np.random.default_rng(first).normal(size=(count, DIM)).astype(np.float32)
    facts = [FileFacts(f"{first + i}.jpg", "", "{}", f"{first + i:032x}", 1, 1) for i in range(count)]
    return [ImageToAdd(fact, 64, 48, row) for fact, row in zip(facts, rows, strict=True)]


def test_descriptors_are_on_disk_before_the_transaction_that_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "i.glam"
    at_commit: list[list[tuple[int, int]]] = []
    with open_writer(index, CONFIG) as writer, recorded_flushes(monkeypatch) as flushes:

        def note(statement: str) -> None:
            if statement == "COMMIT":
                at_commit.append(flushes.copy())
                flushes.clear()

        writer.catalog.connection.set_trace_callback(note)
        writer.add(described(3, 0))  # a new segment: its name must be on disk too
        writer.add(described(2, 3))
        writer.catalog.connection.set_trace_callback(None)
    file = segments.segment_file(index, 1)
    first, second = at_commit
    assert (file.stat().st_ino, 3 * DIM * 4) in first
    assert file.parent.stat().st_ino in [inode for inode, _ in first]
    assert (file.stat().st_ino, 5 * DIM * 4) in second


@pytest.mark.parametrize(
    ("descriptor", "sentence"),
    [
        (
            np.ones(DIM - 1, np.float32),
            r"9\.jpg has the shape \(3,\), and those of .* have the shape \(4,\)\. Describe",
        ),
        (np.ones(DIM + 1, np.float32), r"9\.jpg has the shape \(5,\)"),
        (np.ones((1, DIM), np.float32), r"9\.jpg has the shape \(1, 4\)"),
        (np.float32(1), r"9\.jpg has the shape \(\)"),
        (np.array([1, 0, np.nan, 0], np.float32), r"9\.jpg is zero or not finite\. Describe"),
        (np.zeros(DIM, np.float32), r"9\.jpg is zero"),
        (np.array([1, 0, -np.inf, 0], np.float32), r"9\.jpg is zero or not finite"),
    ],
)
def test_a_descriptor_that_does_not_fit_is_refused_before_anything_is_written(
    descriptor: Any, sentence: str, tmp_path: Path
) -> None:
    index = tmp_path / "i.glam"
    with open_writer(index, CONFIG) as writer:
        writer.add(described(3, 0))
    before = {file: file.read_bytes() for file in index.rglob("*") if file.is_file()}
    wrong = described(1, 9)[0]._replace(descriptor=descriptor)
    with open_writer(index) as writer, pytest.raises(GlamError, match=sentence) as raised:
        writer.add([*described(1, 3), wrong])
    assert "\n" not in str(raised.value)
    assert {file: file.read_bytes() for file in index.rglob("*") if file.is_file()} == before
    assert verify(index).problems == ()


def test_descriptors_of_an_earlier_version_that_are_not_finite_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier writers stored them, with a digest that is right."""
    index = tmp_path / "i.glam"
    images = described(3, 0)
    images[1].descriptor[2] = np.nan
    monkeypatch.setattr("glam.index.writer.is_usable", lambda descriptor: True)
    with open_writer(index, CONFIG) as writer:
        writer.add(images)
    assert [problem.what for problem in verify(index).problems] == ["has descriptors that are not finite"]
