"""Stored re-ranking data: every writer keeps it up to date."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, add, build, compact, precompute, remove, sync, verify
from glam.index.limits import IndexLimits
from glam.index.local_matching.rootsift import extract
from glam.index.rerank.base import NEIGHBORS as K
from glam.index.rerank.base import Query
from glam.index.rerank.chain import parse_chain
from glam.index.rerank_store.files import LOCAL_FEATURES, store_files
from glam.index.rerank_store.local_features import FILE_IMAGES, usable_files
from glam.index.storage.migrations import open_catalog

from .stored import COUNT, Draw, change, check, same


def test_every_writer_keeps_the_data_up_to_date(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    assert check(index) == COUNT
    change(folder, draw_image)
    sync(index, read_folder(folder), lambda: content_model)
    assert check(index) == COUNT
    draw_image(64, 48, 102).save(folder / "place 4" / "added.png")
    add(index, [folder / "place 4" / "added.png"], lambda: content_model)
    assert check(index) == COUNT + 1
    remove(index, ["place 4"])
    assert check(index) == COUNT - 10
    compact(index)
    assert check(index) == COUNT - 10
    with closing(open_catalog(index)) as catalog:
        assert sum(len(file.image_ids) for file in store_files(catalog, LOCAL_FEATURES)) == COUNT - 10
    assert len(list((index / "rerank").iterdir())) <= 4


def test_an_index_can_shrink_to_nothing_and_grow_again(index: Path, folder: Path, content_model: Any) -> None:
    remove(index, [f"place {i}" for i in range(5)])
    compact(index)
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        chain = parse_chain("aqe,dba,diffusion,reciprocal,superglobal")
        assert opened.search(Query(np.eye(opened.dim, dtype=np.float32)[0]), rerank=chain) == [[]]
    add(index, sorted(folder.glob("*/*.png"))[:1], lambda: content_model)
    assert check(index) == 1
    sync(index, read_folder(folder), lambda: content_model)
    assert check(index) == COUNT


def test_adding_one_by_one_leaves_few_files(
    index: Path, folder: Path, content_model: Any, draw_image: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        draw_image(40, 30, 200 + i).save(folder / f"{i}.png")
        add(index, [folder / f"{i}.png"], lambda: content_model)
    assert check(index) == COUNT + 9
    with closing(open_catalog(index)) as catalog:
        sizes = [len(file.image_ids) for file in usable_files(catalog)]
        assert sizes == [50, 8, 1]
    assert {"000001.features"} <= {
        path.name for path in (index / "rerank").iterdir()
    }  # the large file was not rewritten
    assert FILE_IMAGES > 1_000


def test_data_that_is_not_stored_is_computed_and_equal(index: Path) -> None:
    with Index.open(index) as opened:
        stored = [opened.local_features_in_row(i) for i in range(COUNT)]
        neighbors = opened.neighbors(np.arange(COUNT))
    report = precompute(index, local_features=False, knn_graph=False)
    assert (report.precomputed, report.local_features, report.bytes) == ((), 0, 0)
    assert list((index / "rerank").iterdir()) == []
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        for i, before in enumerate(stored):
            now = opened.local_features_in_row(i)
            assert now is not None
            assert before is not None
            assert same(now, before)
        now_neighbors = opened.neighbors(np.arange(COUNT))
        np.testing.assert_array_equal(now_neighbors.rows, neighbors.rows)


def test_the_error_without_a_graph_names_the_command(index: Path) -> None:
    precompute(index, knn_graph=False)
    with Index.open(index, limits=IndexLimits(linked_in_memory=COUNT - 1)) as opened:
        query = Query(opened.descriptor(0))
        with pytest.raises(GlamError, match="glam index precompute INDEX --knn-graph"):
            opened.search(query, rerank="diffusion")
        assert opened.search(query, rerank="aqe")[0]


def test_a_missing_or_changed_file_has_no_features_and_stops_nothing(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    precompute(index, local_features=False)
    (folder / "place 0" / "00.png").unlink()
    draw_image(64, 48, 300).save(folder / "place 1" / "01.png")
    with Index.open(index) as opened:
        assert sum(opened.local_features_in_row(i) is None for i in range(COUNT)) == 2
        query = Query(opened.descriptor(5), lambda: extract(draw_image(64, 48, 5)))
        (hits,) = opened.search(query, COUNT, rerank="geometric")
        assert {hit.image_id for hit in hits} == set(range(COUNT))
    report = precompute(index, local_features=True)
    assert (report.images, report.local_features) == (COUNT, COUNT - 2)
    draw_image(64, 48, 0).save(folder / "place 0" / "00.png")
    assert precompute(index, local_features=True).local_features == COUNT - 1


def test_images_without_features(tmp_path: Path, content_model: Any) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(3):
        Image.new("RGB", (64, 48), (i, 0, 0)).save(root / f"{i}.png")
    build(tmp_path / "i.glam", read_folder(root), content_model)
    assert precompute(tmp_path / "i.glam", local_features=True, knn_graph=True).local_features == 3
    assert check(tmp_path / "i.glam") == 3


def test_readers_continue_while_files_are_replaced(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    with Index.open(index) as old:
        before = old.local_features_in_row(3)
        neighbors = old.neighbors(np.arange(COUNT))
        remove(index, ["place 1"])
        compact(index)
        sync(index, read_folder(folder), lambda: content_model)
        assert before is not None
        now = old.local_features_in_row(3)
        assert now is not None
        assert same(now, before)
        np.testing.assert_array_equal(old.neighbors(np.arange(COUNT)).rows, neighbors.rows)
    assert check(index) == COUNT


def test_a_copy_without_the_folder_works(index: Path) -> None:
    """Like a copy of the catalog for searching Milvus, which lists files that do not exist."""
    shutil.rmtree(index / "rerank")
    with Index.open(index) as opened:
        assert opened.local_features_in_row(0) is not None
        assert opened.neighbors(np.array([0])).rows.shape == (1, K)
