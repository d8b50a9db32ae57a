"""A Milvus collection with missing or stray rows is detected, searched correctly, and repaired, also after a kill."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.readers import read_collection
from glam.index import Index, Milvus, build, remove, sync, verify
from glam.index.milvus.connection import connect, disconnect

from .pairs import COUNT, Pair, config_of, forget_digest, open_collection, same_answers, spoil, write_manifest


def test_images_missing_from_the_collection_are_found(pair: Pair) -> None:
    """Like after a kill, when the catalog is ahead of the Milvus collection."""
    spoil(pair.milvus, missing=[0, 1, 2, 30], strays=[1000, 1001])
    forget_digest(pair.milvus)
    same_answers(pair)


def test_verify_compares_the_collection_with_the_folder(pair: Pair, content_model: Any) -> None:
    spoil(pair.milvus, missing=[0, 1], strays=[1000])
    collection = open_collection(pair.milvus)
    collection.put(np.array([7]), np.ones((1, 32), np.float32))
    collection.close()
    problems = [problem.what for problem in verify(pair.milvus).problems]
    assert [what[:40] for what in problems] == [
        "2 images are not in the Milvus collection"[:40],
        "1 rows in the Milvus collection test_verify_compares"[:40],
        "1 of 38 descriptors in the Milvus collection"[:40],
    ]
    config = config_of(pair.milvus)
    client = connect(config.uri)
    client.drop_collection(config.collection)
    (problem,) = verify(pair.milvus).problems
    assert problem.what.startswith(f"The Milvus {config} does not exist. Run `glam index sync`")
    remove(pair.milvus, ["39.jpg"])
    remove(pair.faiss, ["39.jpg"])
    assert verify(pair.milvus).problems == ()
    same_answers(pair)
    disconnect(client, config.uri)


def test_a_half_created_collection_is_completed(
    folder: Path, tmp_path: Path, database: str, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pymilvus creates a collection, builds its search structure, and then loads it."""
    index = tmp_path / "half.glam"
    images = read_collection(folder)

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("pymilvus.MilvusClient.create_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(index, images, content_model, backend=Milvus(database))
    assert build(index, images, content_model).added == COUNT
    assert verify(index).problems == ()


KILLED = """
import hashlib, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from glam.datasets.readers import read_collection
from glam.index import Milvus, build, sync
from glam.index.limits import IndexLimits
from glam.index.milvus.collection import MilvusCollection

index, folder, uri, moment, call = sys.argv[1:]
rows = np.load(Path(folder) / "rows.npy")

class Model:
    name, fingerprint, dim = "contents", "c" * 16, 32
    def settings(self):
        return SimpleNamespace(size=64, scales=(1.0,))
    def stream(self, items, settings):
        for position, (source, _) in enumerate(items):
            row = rows[int(source.split()[1])]
            yield SimpleNamespace(position=position, descriptor=row, width=9, height=1, error=None)

limits = IndexLimits(commit_images=10)
left = int(call)
usual = getattr(MilvusCollection, moment)

def killed(self, *arguments):
    global left
    left -= 1
    if not left:
        if moment == "put":  # in the middle of a batch
            usual(self, *(argument[:3] for argument in arguments))
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(self, *arguments)

setattr(MilvusCollection, moment, killed)
if os.path.exists(index):
    sync(index, read_collection(folder), Model, limits=limits)
else:
    build(index, read_collection(folder), Model(), backend=Milvus(uri), limits=limits)
"""


def test_the_next_writer_repairs_what_a_killed_one_left(folder: Path, tmp_path: Path, content_model: Any) -> None:
    pair, uri = Pair(tmp_path / "faiss.glam", tmp_path / "milvus.glam"), str(tmp_path / "own.db")
    np.save(folder / "rows.npy", [content_model.descriptor(f"content {i}".encode()) for i in range(COUNT)])

    def kill(moment: str, call: int) -> None:
        arguments = [str(pair.milvus), str(folder), uri, moment, str(call)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

    kill("put", 3)  # during the build: the third batch is committed, and three of its rows are in the Milvus collection
    with Index.open(pair.milvus) as index:
        assert len(index) == 30
        hits = index.search(index.descriptors(index.image_ids.tolist()), 1)
        assert all(hit.score > 0.999 for (hit,) in hits)
    assert verify(pair.milvus).problems == ()
    build(pair.milvus, read_collection(folder), content_model)
    same_answers(with_faiss_copy(pair, folder, content_model))
    for moment, gone in (("delete", "20.jpg"), ("flush", "21.jpg")):
        (folder / gone).unlink()
        write_manifest(folder)
        kill(moment, 1)
        with Index.open(pair.milvus) as index:
            hits = index.search(content_model.descriptor(f"content {gone[:2]}".encode()), len(index))[0]
            assert gone not in [hit.path for hit in hits]
            assert len(hits) == len(index)
        same = sync(pair.milvus, read_collection(folder), lambda: content_model)
        assert (same.removed, same.added) == (0, 0)
        done = verify(pair.milvus)
        assert (done.problems, done.notes) == ((), ())
        same_answers(with_faiss_copy(pair, folder, content_model))


def with_faiss_copy(pair: Pair, folder: Path, model: Any) -> Pair:
    """The pair with the FAISS index replaced by a copy of the Milvus index, switched to FAISS."""
    shutil.rmtree(pair.faiss, ignore_errors=True)
    shutil.copytree(pair.milvus, pair.faiss)
    build(pair.faiss, read_collection(folder), model, backend="faiss")
    return pair
