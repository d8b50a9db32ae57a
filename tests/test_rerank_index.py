"""What an index keeps for reranking: made once, current after every writer, whole after a kill, and never wrong."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.images import read_image
from glam.index import Index, Milvus, add, build, compact, keep, remove, sync, verify
from glam.index.features import FILE_IMAGES, usable_files
from glam.index.kept import FEATURES, NEIGHBOURS, kept_files
from glam.index.migration import open_catalogue
from glam.index.rerank.chain import parse_chain
from glam.index.rerank.interface import NEIGHBOURS as K
from glam.index.rerank.interface import Query
from glam.index.rerank.local_features import LocalFeatures, extract
from glam.index.schema import CATALOGUE
from glam.index.summary import summary

COUNT = 50
Draw = Callable[..., Image.Image]


@pytest.fixture
def folder(tmp_path: Path, draw_image: Draw) -> Path:
    root = tmp_path / "photos"
    for i in range(COUNT):
        (root / f"place {i % 5}").mkdir(parents=True, exist_ok=True)
        draw_image(64, 48, i).save(root / f"place {i % 5}" / f"{i:02d}.png")
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any) -> Path:
    path = tmp_path / "i.glam"
    build(path, read_folder(folder), content_model)
    keep(path, features=True, neighbours=True)
    return path


def same(a: LocalFeatures, b: LocalFeatures) -> bool:
    return a.scale == b.scale and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("points", "diameters", "descriptors")
    )


def expected_neighbours(rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The graph in the slow way."""
    cosines = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, : min(K, len(rows) - 1)]
    return order, np.take_along_axis(cosines, order, axis=1)


def check(index: Path) -> int:
    """All that is kept is right and there for every image; how many there are."""
    with closing(open_catalogue(index)) as catalogue:
        kept = np.concatenate([file.images for file in usable_files(catalogue)])
        (graph,) = kept_files(catalogue, NEIGHBOURS)
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        assert len(np.unique(kept)) == len(kept)
        assert np.isin(opened.ids, kept).all()
        np.testing.assert_array_equal(graph.images, opened.ids)
        database = opened.database()
        for place, image in enumerate(opened.ids.tolist()):
            found = database.features(place)
            assert found is not None
            assert same(found, extract(read_image(opened.file(image))))
        everything = np.arange(len(opened))
        found = database.neighbours(everything)
        places, cosines = expected_neighbours(opened.descriptors(opened.ids.tolist()))
        np.testing.assert_array_equal(found.positions[:, : places.shape[1]], places)
        np.testing.assert_allclose(found.scores[:, : places.shape[1]], cosines, atol=1e-6)
        assert (found.positions[:, places.shape[1] :] == -1).all()
        return len(opened)


def change(folder: Path, draw_image: Draw) -> None:
    """New, changed, moved and removed files."""
    draw_image(64, 48, 100).save(folder / "place 0" / "new.png")
    draw_image(64, 48, 101).save(folder / "place 1" / "01.png")
    (folder / "place 2" / "02.png").rename(folder / "place 2" / "moved.png")
    (folder / "place 3" / "03.png").unlink()


def test_every_writer_keeps_them_current(index: Path, folder: Path, content_model: Any, draw_image: Draw) -> None:
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
    with closing(open_catalogue(index)) as catalogue:
        assert sum(len(file.images) for file in kept_files(catalogue, FEATURES)) == COUNT - 10
    assert len(list((index / "rerank").iterdir())) <= 4


def test_an_index_can_shrink_to_nothing_and_grow_again(index: Path, folder: Path, content_model: Any) -> None:
    remove(index, [f"place {i}" for i in range(5)])
    compact(index)
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        chain = parse_chain("aqe,dba,diffusion,reciprocal,superglobal")
        assert opened.search_reranked(Query(np.ones(opened.dim, np.float32)), chain) == []
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
    with closing(open_catalogue(index)) as catalogue:
        sizes = [len(file.images) for file in usable_files(catalogue)]
        assert sizes == [50, 8, 1]
    assert {"000001.features"} <= {path.name for path in (index / "rerank").iterdir()}  # the large one stayed
    assert FILE_IMAGES > 1_000


def test_what_is_not_kept_is_made_and_is_the_same(index: Path) -> None:
    with Index.open(index) as opened:
        kept = [opened.database().features(i) for i in range(COUNT)]
        neighbours = opened.database().neighbours(np.arange(COUNT))
    report = keep(index, features=False, neighbours=False)
    assert (report.keeps, report.features, report.bytes) == ((), 0, 0)
    assert list((index / "rerank").iterdir()) == []
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        for i, before in enumerate(kept):
            now = opened.database().features(i)
            assert now is not None
            assert before is not None
            assert same(now, before)
        now_neighbours = opened.database().neighbours(np.arange(COUNT))
        np.testing.assert_array_equal(now_neighbours.positions, neighbours.positions)


def test_without_a_graph_a_large_index_says_what_makes_one(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(index, neighbours=False)
    monkeypatch.setattr("glam.index.reranking.LINKED_IN_MEMORY", COUNT - 1)
    with Index.open(index) as opened:
        query = Query(opened.descriptor(0))
        with pytest.raises(GlamError, match="glam index keep INDEX --neighbours"):
            opened.search_reranked(query, parse_chain("diffusion"))
        assert opened.search_reranked(query, parse_chain("aqe"))


def test_an_image_whose_file_is_gone_or_changed_has_no_features_and_stops_nothing(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    keep(index, features=False)
    (folder / "place 0" / "00.png").unlink()
    draw_image(64, 48, 300).save(folder / "place 1" / "01.png")
    with Index.open(index) as opened:
        database = opened.database()
        assert sum(database.features(i) is None for i in range(COUNT)) == 2
        query = Query(opened.descriptor(5), lambda: extract(draw_image(64, 48, 5)))
        hits = opened.search_reranked(query, parse_chain("geometric"), COUNT)
        assert {hit.entry.id for hit in hits} == set(range(COUNT))
    report = keep(index, features=True)
    assert (report.images, report.features) == (COUNT, COUNT - 2)
    draw_image(64, 48, 0).save(folder / "place 0" / "00.png")
    assert keep(index, features=True).features == COUNT - 1


def test_features_of_images_without_any(tmp_path: Path, content_model: Any) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(3):
        Image.new("RGB", (64, 48), (i, 0, 0)).save(root / f"{i}.png")
    build(tmp_path / "i.glam", read_folder(root), content_model)
    assert keep(tmp_path / "i.glam", features=True, neighbours=True).features == 3
    assert check(tmp_path / "i.glam") == 3


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


def test_what_is_missing_too_much_or_cut_off_is_named(index: Path) -> None:
    stray = index / "rerank" / "000099.features"
    stray.write_bytes(b"1234")
    assert [problem.file for problem in verify(index).problems] == ["rerank/000099.features"]
    stray.unlink()
    (features,) = (index / "rerank").glob("*.features")
    features.write_bytes(features.read_bytes()[:-100])
    assert [problem.file for problem in verify(index).problems] == ["rerank/" + features.name]
    with Index.open(index) as opened, pytest.raises(GlamError, match="damaged; `glam index keep INDEX --features`"):
        opened.database().features(0)
    (graph,) = (index / "rerank").glob("*.neighbours")
    graph.write_bytes(graph.read_bytes()[:1000] + b"?" + graph.read_bytes()[1001:])
    with Index.open(index) as opened, pytest.raises(GlamError, match="damaged; `glam index keep INDEX --neighbours`"):
        opened.database().neighbours(np.arange(3))
    keep(index, neighbours=True)
    features.unlink()
    assert [(problem.file, problem.what) for problem in verify(index).problems] == [
        ("rerank/" + features.name, "not there")
    ]


def test_a_damaged_file_is_never_built_on_and_is_made_anew(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    for file in sorted((index / "rerank").iterdir()):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    remove(index, ["place 0/00.png"])
    with pytest.raises(GlamError, match=r"rerank/\d+.features of the index is damaged"):
        compact(index)
    (problem,) = verify(index).problems  # the graph was made anew by the first writer
    assert problem.file.endswith(".features")
    for i in range(COUNT):  # as many as would take the damaged file in
        draw_image(40, 30, 400 + i).save(folder / f"more {i}.png")
    add(index, sorted(folder.glob("more*.png")), lambda: content_model)
    assert [found.file for found in verify(index).problems] == [problem.file]
    keep(index, features=True, neighbours=True)
    compact(index)
    assert check(index) == 2 * COUNT - 1


def test_an_index_of_version_2_opens_as_it_is_and_a_writer_brings_it_to_this_one(
    index: Path, folder: Path, content_model: Any
) -> None:
    keep(index, features=False, neighbours=False)
    with closing(sqlite3.connect(index / CATALOGUE)) as database, database:
        database.execute("DROP TABLE kept")
        database.execute("DELETE FROM sqlite_sequence WHERE name = 'kept'")
        database.execute("UPDATE about SET description = json_remove(description, '$.keeps')")
        database.execute("PRAGMA user_version = 2")
    (index / "checksums.json").unlink()
    before = (index / CATALOGUE).read_bytes()
    with Index.open(index) as opened:
        found = opened.search_reranked(Query(opened.descriptor(7)), parse_chain("aqe,diffusion"), 5)
        assert found[0].entry.id == 7
    assert summary(index).keeps == ()
    assert verify(index).problems == ()
    assert (index / CATALOGUE).read_bytes() == before
    remove(index, ["place 0/00.png"])
    found_now = verify(index)
    assert (found_now.clean, found_now.problems) == (True, ())
    keep(index, features=True, neighbours=True)
    assert check(index) == COUNT - 1
    assert summary(index).keeps == (FEATURES, NEIGHBOURS)


def test_readers_go_on_while_files_are_replaced(
    index: Path, folder: Path, content_model: Any, draw_image: Draw
) -> None:
    with Index.open(index) as old:
        before = old.database().features(3)
        neighbours = old.database().neighbours(np.arange(COUNT))
        remove(index, ["place 1"])
        compact(index)
        sync(index, read_folder(folder), lambda: content_model)
        assert before is not None
        now = old.database().features(3)
        assert now is not None
        assert same(now, before)
        np.testing.assert_array_equal(old.database().neighbours(np.arange(COUNT)).positions, neighbours.positions)
    assert check(index) == COUNT


def test_a_reader_between_two_batches_brings_the_graph_up_to_date_itself(
    index: Path, folder: Path, content_model: Any, draw_image: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the batches and the graph."""
    change(folder, draw_image)
    monkeypatch.setattr("glam.index.writing.Writer.renew_graph", lambda self: None)
    sync(index, read_folder(folder), lambda: content_model)
    monkeypatch.undo()
    with Index.open(index) as opened:
        found = opened.database().neighbours(np.arange(COUNT))
        places, _ = expected_neighbours(opened.descriptors(opened.ids.tolist()))
        np.testing.assert_array_equal(found.positions, places)
    remove(index, ["place 0/00.png"])
    assert check(index) == COUNT - 1


def _write(index: Path, folder: Path, model: Any) -> None:
    """All that changes what is kept, again and again."""
    while True:
        keep(index, features=True, neighbours=True)
        sync(index, read_folder(folder), lambda: model)
        remove(index, ["place 0"])
        compact(index)
        sync(index, read_folder(folder), lambda: model)
        keep(index, features=False)


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
            for place in range(0, len(opened), 7):
                found = opened.database().features(place)
                assert found is not None
                assert same(found, extract(read_image(opened.file(int(opened.ids[place])))))
            if len(opened) > 1:
                places, _ = expected_neighbours(opened.descriptors(opened.ids.tolist()))
                found_places = opened.database().neighbours(np.arange(len(opened))).positions
                np.testing.assert_array_equal(found_places[:, : places.shape[1]], places)
        draw_image(64, 48, 500 + i).save(folder / f"{i}.png")
    sync(index, read_folder(folder), lambda: content_model)
    keep(index, features=True, neighbours=True)
    assert check(index) == COUNT + 12
    assert verify(index).clean


def _keep_with_a_limit(index: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        keep(index, features=True, neighbours=True)
    except GlamError as error:
        os._exit(7 if "the disk is full" in str(error) else 8)


def test_a_full_disk_is_one_sentence_and_costs_nothing(index: Path) -> None:
    keep(index, features=False, neighbours=False)
    child = multiprocessing.get_context("fork").Process(target=_keep_with_a_limit, args=(index,))
    child.start()
    child.join()
    assert child.exitcode == 7
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        assert opened.database().features(0) is not None
    keep(index, features=True, neighbours=True)
    assert check(index) == COUNT


def test_a_copy_without_the_folder_works(index: Path) -> None:
    """As a copy for reading from Milvus: the catalogue names files that are not there."""
    shutil.rmtree(index / "rerank")
    with Index.open(index) as opened:
        assert opened.database().features(0) is not None
        assert opened.database().neighbours(np.array([0])).positions.shape == (1, K)


def test_search_reranked(index: Path) -> None:
    with Index.open(index) as opened:
        query = Query(opened.descriptor(7))
        plain = opened.search(query.descriptor, COUNT)[0]
        cosines = {hit.entry.id: (hit.score, hit.confidence) for hit in plain}
        for text in ("aqe", "dba", "diffusion", "reciprocal", "superglobal", "aqe,reciprocal,diffusion"):
            chain = parse_chain(text)
            hits = opened.search_reranked(query, chain, COUNT)
            assert sorted(hit.entry.id for hit in hits) == list(range(COUNT))
            assert [hit.rank for hit in hits] == list(range(1, COUNT + 1))
            for hit in hits:
                assert hit.score == pytest.approx(cosines[hit.entry.id][0], abs=1e-6)
            few = opened.search_reranked(query, chain, 5)
            assert [hit.entry.id for hit in few] == [hit.entry.id for hit in hits[:5]]
            cut = plain[20].score
            above = opened.search_reranked(query, chain, None, threshold=cut)
            assert {hit.entry.id for hit in above} == {hit.entry.id for hit in plain if hit.score >= cut}
            assert len(opened.search_reranked(query, chain, 3, threshold=cut)) == 3
            there = opened.search_reranked(query, chain, COUNT, where="label = 'place 2'")
            assert {hit.entry.label for hit in there} == {"place 2"}
            assert len(there) == 10
        with pytest.raises(GlamError, match="its image is needed"):
            opened.search_reranked(query, parse_chain("geometric"))
        with pytest.raises(GlamError, match="cannot be used"):
            opened.search_reranked(query, parse_chain("aqe"), where="nothing = 1")
        with pytest.raises(GlamError, match="cannot search an index"):
            opened.search_reranked(Query(np.ones(3, np.float32)), parse_chain("aqe"))


def test_removed_images_are_in_no_list(index: Path) -> None:
    remove(index, ["place 3"])
    with Index.open(index) as opened:
        for text in ("aqe", "dba", "diffusion", "reciprocal"):
            hits = opened.search_reranked(Query(opened.descriptor(7)), parse_chain(text), COUNT)
            assert {hit.entry.label for hit in hits} == {f"place {i}" for i in (0, 1, 2, 4)}
            assert len(hits) == COUNT - 10


def test_an_index_that_milvus_searches_gives_the_same_list(
    index: Path, folder: Path, tmp_path: Path, content_model: Any
) -> None:
    pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")
    chain = parse_chain("aqe,dba,diffusion")
    with Index.open(index) as opened:
        expected = opened.search_reranked(Query(opened.descriptor(7)), chain, 20, where="label != 'place 1'")
    build(index, read_folder(folder), content_model, backend=Milvus(str(tmp_path / "m.db"), "places"))
    remove(index, ["place 1/01.png"])
    with Index.open(index) as opened:
        hits = opened.search_reranked(Query(opened.descriptor(7)), chain, 20, where="label != 'place 1'")
    assert len(hits) == 20
    keep(index, neighbours=False)
    with Index.open(index) as opened:  # the same graph, made by asking Milvus
        again = opened.search_reranked(Query(opened.descriptor(7)), chain, 20, where="label != 'place 1'")
    assert [hit.entry.id for hit in again] == [hit.entry.id for hit in hits]
    assert len({hit.entry.id for hit in hits} & {hit.entry.id for hit in expected}) > 15  # one image less in the graph
