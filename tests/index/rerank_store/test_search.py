"""Searches of an index with re-ranking."""

import shutil
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, Milvus, build, precompute, remove
from glam.index.ann.exact import Exact
from glam.index.limits import IndexLimits
from glam.index.rerank.base import Query
from glam.index.rerank.chain import parse_chain
from glam.index.types import Descriptors, Mask, Rows, Scores

from .stored import COUNT


def test_a_reranked_search(index: Path) -> None:
    with Index.open(index) as opened:
        query = Query(opened.descriptor(7))
        plain = opened.search(query.descriptor, COUNT)[0]
        cosines = {hit.image_id: (hit.score, hit.confidence) for hit in plain}
        for text in ("aqe", "dba", "diffusion", "reciprocal", "superglobal", "aqe,reciprocal,diffusion"):
            (hits,) = opened.search(query, COUNT, rerank=text)
            assert sorted(hit.image_id for hit in hits) == list(range(COUNT))
            assert [hit.rank for hit in hits] == list(range(1, COUNT + 1))
            for hit in hits:
                assert hit.score == pytest.approx(cosines[hit.image_id][0], abs=1e-6)
            (few,) = opened.search(query, 5, rerank=parse_chain(text))
            assert [hit.image_id for hit in few] == [hit.image_id for hit in hits[:5]]
            cut = plain[20].score
            (above,) = opened.search(query, None, threshold=cut, rerank=text)
            assert {hit.image_id for hit in above} == {hit.image_id for hit in plain if hit.score >= cut}
            assert len(opened.search(query, 3, threshold=cut, rerank=text)[0]) == 3
            (there,) = opened.search(query, COUNT, where="landmark = 'place 2'", rerank=text)
            assert {hit.landmark for hit in there} == {"place 2"}
            assert len(there) == 10
        with pytest.raises(GlamError, match="Search with an image"):
            opened.search(query, rerank="geometric")
        with pytest.raises(GlamError, match="cannot be used"):
            opened.search(query, where="nothing = 1", rerank="aqe")
        with pytest.raises(GlamError, match="do not fit an index"):
            opened.search(Query(np.ones(3, np.float32)), rerank="aqe")


def test_removed_images_are_in_no_list(index: Path) -> None:
    remove(index, ["place 3"])
    with Index.open(index) as opened:
        for text in ("aqe", "dba", "diffusion", "reciprocal"):
            hits = opened.search(opened.descriptor(7), k=COUNT, rerank=text)[0]
            assert {hit.landmark for hit in hits} == {f"place {i}" for i in (0, 1, 2, 4)}
            assert len(hits) == COUNT - 10


def test_an_index_in_milvus_gives_the_same_list(index: Path, folder: Path, tmp_path: Path, content_model: Any) -> None:
    pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")
    chain = parse_chain("aqe,dba,diffusion")
    with Index.open(index) as opened:
        expected = opened.search(opened.descriptor(7), k=20, rerank=chain, where="landmark != 'place 1'")[0]
    build(index, read_folder(folder), content_model, backend=Milvus(str(tmp_path / "m.db"), "places"))
    remove(index, ["place 1/01.png"])
    with Index.open(index) as opened:
        hits = opened.search(opened.descriptor(7), k=20, rerank=chain, where="landmark != 'place 1'")[0]
    assert len(hits) == 20
    precompute(index, knn_graph=False)
    with Index.open(index) as opened:  # the same graph, computed by searching Milvus
        again = opened.search(opened.descriptor(7), k=20, rerank=chain, where="landmark != 'place 1'")[0]
    assert [hit.image_id for hit in again] == [hit.image_id for hit in hits]
    assert len({hit.image_id for hit in hits} & {hit.image_id for hit in expected}) > 15  # the graph has one image less


def test_a_reranked_query_reaches_the_search_structure_in_four_calls(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[list[str]] = []
    usual = Exact.search

    def note(self: Exact, queries: Descriptors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        frames = [Path(frame.filename) for frame in traceback.extract_stack()[:-1]]
        paths.append([frame.name for frame in frames if "index" in frame.parts and "tests" not in frame.parts])
        return usual(self, queries, k, allowed)

    with Index.open(index) as opened:
        query = Query(opened.descriptor(7))
        monkeypatch.setattr(Exact, "search", note)
        opened.search(query.descriptor)
        opened.search(query, rerank="aqe")
    assert paths == [
        ["index.py", "index.py"],
        ["index.py", "chain.py", "index.py"],
        ["index.py", "chain.py", "aqe.py", "index.py"],
    ]


def test_a_structure_that_still_holds_removed_images_gives_the_same_lists(
    folder: Path, tmp_path: Path, content_model: Any
) -> None:
    limits = IndexLimits(save_exact=True, removed_share=1.0)
    path = tmp_path / "stale.glam"
    build(path, read_folder(folder), content_model, limits=limits)
    remove(path, ["place 3"], limits=limits)
    copy = shutil.copytree(path, tmp_path / "fresh.glam")
    shutil.rmtree(copy / "search")
    with Index.open(path, limits=limits) as stale, Index.open(copy, limits=limits) as fresh:
        assert len(stale._structure) == COUNT
        assert len(fresh._structure) == COUNT - 10
        for text in ("aqe", "diffusion", "superglobal"):
            for where in (None, "landmark != 'place 1'"):
                lists = [
                    opened.search(opened.descriptor(7), k=COUNT, rerank=text, where=where)[0]
                    for opened in (stale, fresh)
                ]
                assert [hit.image_id for hit in lists[0]] == [hit.image_id for hit in lists[1]]
                assert len(lists[0]) == (40 if where is None else 30)
