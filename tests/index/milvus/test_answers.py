"""An index searched by Milvus Lite gives the same results as with FAISS, after every kind of change."""

from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.readers import read_collection
from glam.errors import GlamError
from glam.index import Index, Milvus, add, build, compact, info, remove, sync, verify
from glam.index.limits import IndexLimits, MilvusLimits

from .pairs import (
    COUNT,
    Pair,
    config_of,
    forget_digest,
    found,
    open_collection,
    same_answers,
    spoil,
    write,
    write_manifest,
)


def test_the_same_answers_after_every_change(pair: Pair, folder: Path, content_model: Any) -> None:
    same_answers(pair)

    def model() -> Any:
        return content_model

    write(folder, COUNT)
    pair.both(lambda index: add(index, [folder / f"{COUNT}.jpg"], model))
    pair.both(lambda index: remove(index, ["10.jpg", "11.jpg", "30.jpg"]))
    same_answers(pair)
    (folder / "05.jpg").rename(folder / "zz.jpg")
    (folder / "06.jpg").write_text("another content")
    (folder / "07.jpg").unlink()
    write_manifest(folder)
    pair.both(lambda index: sync(index, read_collection(folder), model))  # 10, 11, and 30 come back
    same_answers(pair)
    pair.both(compact)
    same_answers(pair)
    for index in pair:
        done = verify(index, model)
        assert (done.problems, done.notes) == ((), ())


def test_an_index_remembers_its_backend(pair: Pair, folder: Path, content_model: Any) -> None:
    config = config_of(pair.milvus)
    assert info(pair.faiss).backend == "faiss"
    assert info(pair.milvus).backend == f"collection {config.collection} at {config.uri}"
    build(pair.milvus, read_collection(folder), content_model)
    assert config_of(pair.milvus) == config
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(config.uri, config.collection))
    assert config_of(pair.milvus) == config
    build(pair.milvus, read_collection(folder), content_model, backend="faiss")
    assert info(pair.milvus).backend == "faiss"
    same_answers(pair)
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(config.uri, f"{config.collection}_2"))
    assert config_of(pair.milvus).owner != config.owner
    same_answers(pair)
    assert content_model.described.count(b"content 1") == 2  # once per index, whatever the backend


def test_results_of_small_messages_are_merged(pair: Pair) -> None:
    few = MilvusLimits(results=4, results_per_message=9, listed_ids=3, ranges=2)
    same_answers(pair, IndexLimits(milvus=few))


def test_the_server_builds_an_approximate_structure(pair: Pair, folder: Path, content_model: Any) -> None:
    limits = IndexLimits(exact_below=10)
    images = read_collection(folder)
    for kind, index_type in (("ivf_pq", "AUTOINDEX"), ("exact", "FLAT")):
        build(pair.milvus, images, content_model, structure=kind, limits=limits)
        collection = open_collection(pair.milvus)
        assert collection._client.describe_index(collection.config.collection, "vector")["index_type"] == index_type
        collection.close()
        assert not list((pair.milvus / "search").glob("*"))
        same_answers(pair)  # brute force in any case, with so few images


def test_readers_see_a_snapshot(pair: Pair, folder: Path, content_model: Any) -> None:
    query = content_model.descriptor(f"content {COUNT}".encode())
    with Index.open(pair.milvus) as before:
        first = found(before.search(query))
        write(folder, COUNT)
        add(pair.milvus, [folder / f"{COUNT}.jpg"], lambda: content_model)
        assert found(before.search(query)) == first
        with Index.open(pair.milvus) as after:
            assert after.search(query)[0][0].path == f"{COUNT}.jpg"
        remove(pair.milvus, ["07.jpg"])
        paths = {hit.path for hit in before.search(query, len(before))[0]}
        assert paths == {before.entry(image_id).path for image_id in before.image_ids.tolist()} - {"07.jpg"}


def test_a_catalog_alone_can_be_searched_elsewhere(
    pair: Pair, tmp_path: Path, folder: Path, content_model: Any
) -> None:
    copy = tmp_path / "copy.glam"
    copy.mkdir()
    (copy / "catalogue.sqlite").write_bytes((pair.milvus / "catalogue.sqlite").read_bytes())
    same_answers(Pair(pair.faiss, copy))
    for change in (
        lambda: remove(copy, ["01.jpg"]),
        lambda: sync(copy, read_collection(folder), lambda: content_model),
        lambda: compact(copy),
    ):
        with pytest.raises(GlamError, match="Change the index that it was copied from"):
            change()
    with Index.open(copy) as older:
        last = older.entry(int(older.image_ids.max()))
        remove(pair.milvus, [last.path])
        assert last not in [hit.entry for hit in older.search(np.eye(32, dtype=np.float32)[0], COUNT)[0]]
        with pytest.raises(KeyError):
            older.descriptor(last.image_id)
    forget_digest(copy)
    spoil(pair.milvus, missing=[3], strays=[])
    with pytest.raises(GlamError, match=r"2 images are not in .* yet, and this copy of the index has no descriptors"):
        Index.open(copy)


def test_many_threads_search_at_once(pair: Pair) -> None:
    with Index.open(pair.milvus) as index, futures.ThreadPoolExecutor(4) as pool:
        descriptors = index.descriptors(index.image_ids.tolist())
        expected = [index.search(descriptor, 5)[0] for descriptor in descriptors]
        wheres = [None, "1", "id >= 0", "id < 100"]
        got = list(pool.map(lambda i: index.search(descriptors[i], 5, where=wheres[i % 4])[0], range(len(descriptors))))
        assert found(got) == found(expected)
