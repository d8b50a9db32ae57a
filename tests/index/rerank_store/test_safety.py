"""Stored re-ranking data: damage is found and repaired, and a kill does no harm."""

import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.images import read_image
from glam.index import Index, add, compact, info, precompute, remove, sync, verify
from glam.index.local_matching.rootsift import extract
from glam.index.storage.schema import CATALOG
from glam.index.writer import Writer

from .stored import COUNT, Draw, change, check, expected_neighbors, same


def test_a_flipped_byte_is_found_and_named(index: Path) -> None:
    draws = np.random.default_rng(0)
    files = sorted((index / "rerank").iterdir())
    assert {file.suffix for file in files} == {".features", ".neighbours"}
    for file in files:
        whole = file.read_bytes()
        for offset in {0, len(whole) - 1, *draws.integers(0, len(whole), 60).tolist()}:
            spoilt = bytearray(whole)
            spoilt[offset] ^= 1 << int(draws.integers(8))
            file.write_bytes(spoilt)
            assert [problem.file for problem in verify(index).problems] == [file.relative_to(index).as_posix()]
        file.write_bytes(whole)
    assert verify(index).problems == ()


def test_missing_stray_and_truncated_files_are_named(index: Path) -> None:
    stray = index / "rerank" / "000099.features"
    stray.write_bytes(b"1234")
    assert [problem.file for problem in verify(index).problems] == ["rerank/000099.features"]
    stray.unlink()
    (features,) = (index / "rerank").glob("*.features")
    features.write_bytes(features.read_bytes()[:-100])
    assert [problem.file for problem in verify(index).problems] == ["rerank/" + features.name]
    with (
        Index.open(index) as opened,
        pytest.raises(GlamError, match="Run `glam index precompute INDEX --local-features`"),
    ):
        opened.local_features_in_row(0)
    (graph,) = (index / "rerank").glob("*.neighbours")
    graph.write_bytes(graph.read_bytes()[:1000] + b"?" + graph.read_bytes()[1001:])
    with Index.open(index) as opened, pytest.raises(GlamError, match="Run `glam index precompute INDEX --knn-graph`"):
        opened.neighbors(np.arange(3))
    precompute(index, knn_graph=True)
    features.unlink()
    assert [(problem.file, problem.what) for problem in verify(index).problems] == [
        ("rerank/" + features.name, "missing")
    ]


def test_local_features_of_the_right_size_and_other_content_are_not_used(index: Path) -> None:
    (features,) = (index / "rerank").glob("*.features")
    content = bytearray(features.read_bytes())
    content[-1] ^= 1
    features.write_bytes(content)
    with Index.open(index) as opened, pytest.raises(GlamError, match="Run `glam index precompute INDEX"):
        opened.local_features_in_row(0)


def test_a_damaged_file_is_never_used_and_is_computed_again(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    for file in sorted((index / "rerank").iterdir()):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    remove(index, ["place 0/00.png"])
    with pytest.raises(GlamError, match=r"rerank/\d+.features of the index is damaged"):
        compact(index)
    (problem,) = verify(index).problems  # the first writer has computed the graph again
    assert problem.file.endswith(".features")
    for i in range(COUNT):  # as many as would cause a merge with the damaged file
        draw_image(40, 30, 400 + i).save(folder / f"more {i}.png")
    add(index, sorted(folder.glob("more*.png")), lambda: content_model)
    assert [found.file for found in verify(index).problems] == [problem.file]
    precompute(index, local_features=True, knn_graph=True)
    compact(index)
    assert check(index) == 2 * COUNT - 1


def test_an_index_of_version_2_opens_unchanged_and_a_writer_upgrades_it(
    index: Path, folder: Path, content_model: Any
) -> None:
    precompute(index, local_features=False, knn_graph=False)
    with closing(sqlite3.connect(index / CATALOG)) as database, database:
        database.execute("DROP TABLE kept")
        database.execute("DELETE FROM sqlite_sequence WHERE name = 'kept'")
        database.execute("UPDATE about SET description = json_remove(description, '$.keeps')")
        database.execute("PRAGMA user_version = 2")
    (index / "checksums.json").unlink()
    before = (index / CATALOG).read_bytes()
    with Index.open(index) as opened:
        (found,) = opened.search(opened.descriptor(7), 5, rerank="aqe,diffusion")
        assert found[0].image_id == 7
    assert info(index).precomputed == ()
    assert verify(index).problems == ()
    assert (index / CATALOG).read_bytes() == before
    remove(index, ["place 0/00.png"])
    found_now = verify(index)
    assert (found_now.clean, found_now.problems) == (True, ())
    precompute(index, local_features=True, knn_graph=True)
    assert check(index) == COUNT - 1
    assert info(index).precomputed == ("local_features", "knn_graph")


def test_a_reader_updates_an_outdated_graph_in_memory(
    index: Path, folder: Path, content_model: Any, draw_image: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like after a kill between the last batch and the graph."""
    change(folder, draw_image)
    monkeypatch.setattr(Writer, "update_knn_graph", lambda self: None)
    sync(index, read_folder(folder), lambda: content_model)
    monkeypatch.undo()
    with Index.open(index) as opened:
        found = opened.neighbors(np.arange(COUNT))
        rows, _ = expected_neighbors(opened.descriptors(opened.image_ids.tolist()))
        np.testing.assert_array_equal(found.rows, rows)
    remove(index, ["place 0/00.png"])
    assert check(index) == COUNT - 1


def _write(index: Path, folder: Path, model: Any) -> None:
    """Runs all operations that change the stored data, in a loop."""
    while True:
        precompute(index, local_features=True, knn_graph=True)
        sync(index, read_folder(folder), lambda: model)
        remove(index, ["place 0"])
        compact(index)
        sync(index, read_folder(folder), lambda: model)
        precompute(index, local_features=False)


def test_killed_at_random_moments(index: Path, folder: Path, content_model: Any, draw_image: Draw) -> None:
    draws = random.Random(0)
    for i in range(12):
        child = multiprocessing.get_context("fork").Process(target=_write, args=(index, folder, content_model))
        child.start()
        time.sleep(draws.uniform(0.05, 1.0))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert verify(index).problems == ()
        with Index.open(index) as opened:
            for row in range(0, len(opened), 7):
                found = opened.local_features_in_row(row)
                assert found is not None
                assert same(found, extract(read_image(opened.file(int(opened.image_ids[row])))))
            if len(opened) > 1:
                rows, _ = expected_neighbors(opened.descriptors(opened.image_ids.tolist()))
                found_rows = opened.neighbors(np.arange(len(opened))).rows
                np.testing.assert_array_equal(found_rows[:, : rows.shape[1]], rows)
        draw_image(64, 48, 500 + i).save(folder / f"{i}.png")
    sync(index, read_folder(folder), lambda: content_model)
    precompute(index, local_features=True, knn_graph=True)
    assert check(index) == COUNT + 12
    assert verify(index).clean


def _killed_before_the_graph(index: Path, operation: Any, *arguments: Any) -> None:
    """Runs an operation in a process that is killed after its transaction, before the graph is updated."""
    child = multiprocessing.get_context("fork").Process(target=_run_to_the_graph, args=(index, operation, *arguments))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def _run_to_the_graph(index: Path, operation: Any, *arguments: Any) -> None:
    Writer.update_knn_graph = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    operation(index, *arguments)


def test_verify_finds_nothing_after_a_remove_and_a_compact_were_killed(index: Path) -> None:
    """The graph then refers to images that are gone for good, which no reader minds."""
    _killed_before_the_graph(index, remove, ["place 0"])
    assert verify(index).problems == ()
    _killed_before_the_graph(index, compact)
    found = verify(index)
    assert (found.clean, found.problems) == (False, ())
    assert any("lists images that are not in the index; the next writer repairs this" in note for note in found.notes)
    with Index.open(index) as opened:
        rows, _ = expected_neighbors(opened.descriptors(opened.image_ids.tolist()))
        np.testing.assert_array_equal(opened.neighbors(np.arange(len(opened))).rows[:, : rows.shape[1]], rows)
    precompute(index)
    assert (verify(index).clean, verify(index).problems, verify(index).notes) == (True, (), ())


def _keep_with_a_limit(index: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        precompute(index, local_features=True, knn_graph=True)
    except GlamError as error:
        os._exit(7 if "the disk is full" in str(error) else 8)


def test_a_full_disk_is_reported_and_loses_nothing(index: Path) -> None:
    precompute(index, local_features=False, knn_graph=False)
    child = multiprocessing.get_context("fork").Process(target=_keep_with_a_limit, args=(index,))
    child.start()
    child.join()
    assert child.exitcode == 7
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        assert opened.local_features_in_row(0) is not None
    precompute(index, local_features=True, knn_graph=True)
    assert check(index) == COUNT
