"""Helpers of the Milvus tests: the same index searched by FAISS and by Milvus, which must give the same results."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glam.index import Hit, Index, near_duplicates
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.milvus import MilvusConfig
from glam.index.milvus.collection import MilvusCollection
from glam.index.storage.catalog import Catalog

COUNT = 40
WHERE = ("id >= 5 and id < 30", "id % 3 = 0", "city = 'Paris' and year > 2010", "id != 7", "year = 1")


def write(folder: Path, i: int) -> None:
    (folder / f"{i:02d}.jpg").write_text(f"content {i}")


def write_manifest(folder: Path) -> None:
    lines = ["path,landmark,city,year"]
    for i, file in enumerate(sorted(folder.glob("*.jpg"))):
        lines.append(f"{file.name},{'abbey' if i < 20 else 'bridge'},{'Paris' if i % 2 else 'Rome'},{2000 + i}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


class Pair(NamedTuple):
    """Two indexes of the same folder, one searched by FAISS and one by Milvus."""

    faiss: Path
    milvus: Path

    def both(self, change: Callable[[Path], object]) -> None:
        assert change(self.faiss) == change(self.milvus)


def config_of(index: Path) -> MilvusConfig:
    catalog = Catalog.open(index)
    config = catalog.config.milvus
    catalog.close()
    assert config is not None
    return config


def open_collection(index: Path) -> MilvusCollection:
    collection = MilvusCollection(config_of(index))
    collection.load()
    return collection


def found(hits: list[list[Hit]]) -> list[list[str]]:
    """Paths by rank. The two equal images, which have equal scores, get the same name."""
    return [[hit.path.replace("04.jpg", "03.jpg") for hit in query_hits] for query_hits in hits]


def same_answers(pair: Pair, limits: IndexLimits = DEFAULT_LIMITS) -> None:
    """Checks that both indexes give the same results, and that these match brute force."""
    with Index.open(pair.faiss) as faiss, Index.open(pair.milvus, limits=limits) as milvus:
        np.testing.assert_array_equal(faiss.image_ids, milvus.image_ids)
        descriptors = faiss.descriptors(faiss.image_ids.tolist())
        np.testing.assert_array_equal(descriptors, milvus.descriptors(milvus.image_ids.tolist()))
        random = np.random.default_rng(0)
        queries = descriptors[::7] + random.normal(size=descriptors[::7].shape).astype(np.float32) / 8
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        expected, got = faiss.search(queries), milvus.search(queries)
        assert found(expected) == found(got)
        products = np.sort(queries @ descriptors.T, axis=1)[:, ::-1][:, :10]
        np.testing.assert_allclose([[hit.score for hit in query_hits] for query_hits in got], products, atol=1e-6)
        sure = [[[hit.confidence or 0 for hit in query_hits] for query_hits in hits] for hits in (expected, got)]
        np.testing.assert_allclose(sure[0], sure[1], atol=1e-4)
        for where in WHERE:
            assert found(faiss.search(queries, where=where)) == found(milvus.search(queries, where=where))
            above = [i.search(queries, None, where=where, threshold=0.05) for i in (faiss, milvus)]
            assert found(above[0]) == found(above[1])
        assert found(faiss.search(queries, threshold=0.3)) == found(milvus.search(queries, threshold=0.3))
        assert near_duplicates(faiss, 0.9) == near_duplicates(milvus, 0.9)


def spoil(index: Path, missing: list[int], strays: list[int]) -> None:
    collection = open_collection(index)
    collection.delete(np.array(missing))
    descriptors = np.random.default_rng(1).normal(size=(len(strays), 32)).astype(np.float32)
    collection.put(np.array(strays), descriptors)
    collection.close()


def forget_digest(index: Path) -> None:
    with sqlite3.connect(index / "catalogue.sqlite") as connection:
        ((text,),) = connection.execute("SELECT description FROM about").fetchall()
        config = json.loads(text)
        config["milvus"]["images"] = ""
        connection.execute("UPDATE about SET description = ?", [json.dumps(config)])
    connection.close()
    (index / "checksums.json").unlink(missing_ok=True)  # a killed writer leaves none
