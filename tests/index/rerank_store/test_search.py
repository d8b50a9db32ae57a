"""Reranked searches of an index."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, Milvus, build, precompute, remove
from glam.index.rerank.base import Query
from glam.index.rerank.chain import parse_chain

from .stored import COUNT


def test_search_reranked(index: Path) -> None:
    with Index.open(index) as opened:
        query = Query(opened.descriptor(7))
        plain = opened.search(query.descriptor, COUNT)[0]
        cosines = {hit.image_id: (hit.score, hit.confidence) for hit in plain}
        for text in ("aqe", "dba", "diffusion", "reciprocal", "superglobal", "aqe,reciprocal,diffusion"):
            chain = parse_chain(text)
            hits = opened.search_reranked(query, chain, COUNT)
            assert sorted(hit.image_id for hit in hits) == list(range(COUNT))
            assert [hit.rank for hit in hits] == list(range(1, COUNT + 1))
            for hit in hits:
                assert hit.score == pytest.approx(cosines[hit.image_id][0], abs=1e-6)
            few = opened.search_reranked(query, chain, 5)
            assert [hit.image_id for hit in few] == [hit.image_id for hit in hits[:5]]
            cut = plain[20].score
            above = opened.search_reranked(query, chain, None, threshold=cut)
            assert {hit.image_id for hit in above} == {hit.image_id for hit in plain if hit.score >= cut}
            assert len(opened.search_reranked(query, chain, 3, threshold=cut)) == 3
            there = opened.search_reranked(query, chain, COUNT, where="landmark = 'place 2'")
            assert {hit.landmark for hit in there} == {"place 2"}
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
            assert {hit.landmark for hit in hits} == {f"place {i}" for i in (0, 1, 2, 4)}
            assert len(hits) == COUNT - 10


def test_an_index_that_milvus_searches_gives_the_same_list(
    index: Path, folder: Path, tmp_path: Path, content_model: Any
) -> None:
    pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")
    chain = parse_chain("aqe,dba,diffusion")
    with Index.open(index) as opened:
        expected = opened.search_reranked(Query(opened.descriptor(7)), chain, 20, where="landmark != 'place 1'")
    build(index, read_folder(folder), content_model, backend=Milvus(str(tmp_path / "m.db"), "places"))
    remove(index, ["place 1/01.png"])
    with Index.open(index) as opened:
        hits = opened.search_reranked(Query(opened.descriptor(7)), chain, 20, where="landmark != 'place 1'")
    assert len(hits) == 20
    precompute(index, knn_graph=False)
    with Index.open(index) as opened:  # the same graph, made by asking Milvus
        again = opened.search_reranked(Query(opened.descriptor(7)), chain, 20, where="landmark != 'place 1'")
    assert [hit.image_id for hit in again] == [hit.image_id for hit in hits]
    assert len({hit.image_id for hit in hits} & {hit.image_id for hit in expected}) > 15  # one image less in the graph
