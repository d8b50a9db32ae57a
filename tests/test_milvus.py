"""An index in Milvus (Lite, embedded) beside the same index in FAISS: the same answers, whatever happens to both."""

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

import glam
from glam.app.cli import app
from glam.datasets.readers import read_collection
from glam.errors import GlamError
from glam.index import Hit, Index, Milvus, add, build, compact, near_duplicates, remove, sync, verify
from glam.index.catalogue import Catalogue
from glam.index.milvus import Place, collection, conditions, searched
from glam.index.milvus.collection import Collection
from glam.index.milvus.connection import connect, disconnect
from glam.index.summary import summary

COUNT = 40
WHERE = ("id >= 5 and id < 30", "id % 3 = 0", "city = 'Paris' and year > 2010", "id != 7", "year = 1")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of Milvus Lite, kept open."""
    uri = str(tmp_path_factory.mktemp("milvus") / "lite.db")
    client = connect(uri)
    yield uri
    disconnect(client, uri)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs with a manifest; 3 and 4 are the same."""
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(COUNT):
        write(root, i)
    (root / "04.jpg").write_text("content 3")
    list_them(root)
    return root


def write(folder: Path, i: int) -> None:
    (folder / f"{i:02d}.jpg").write_text(f"content {i}")


def list_them(folder: Path) -> None:
    lines = ["path,landmark,city,year"]
    for i, file in enumerate(sorted(folder.glob("*.jpg"))):
        lines.append(f"{file.name},{'abbey' if i < 20 else 'bridge'},{'Paris' if i % 2 else 'Rome'},{2000 + i}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


class Pair(NamedTuple):
    """One index in FAISS and one in Milvus, of the same folder."""

    faiss: Path
    milvus: Path

    def both(self, change: Callable[[Path], object]) -> None:
        assert change(self.faiss) == change(self.milvus)


@pytest.fixture
def pair(folder: Path, tmp_path: Path, database: str, content_model: Any, request: pytest.FixtureRequest) -> Pair:
    pair = Pair(tmp_path / "faiss.glam", tmp_path / "milvus.glam")
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    build(pair.faiss, read_collection(folder), content_model)
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(database, name))
    return pair


def place_of(index: Path) -> Place:
    catalogue = Catalogue.open(index)
    place = catalogue.about.milvus
    catalogue.close()
    assert place is not None
    return place


def opened_collection(index: Path) -> Collection:
    opened = Collection(place_of(index))
    opened.load()
    return opened


def found(hits: list[list[Hit]]) -> list[list[str]]:
    """Paths by rank; of twins, which score the same, either may come first."""
    return [[hit.entry.path.replace("04.jpg", "03.jpg") for hit in some] for some in hits]


def same_answers(pair: Pair) -> None:
    """Both indexes answer alike, and alike to the plain product."""
    with Index.open(pair.faiss) as faiss, Index.open(pair.milvus) as milvus:
        np.testing.assert_array_equal(faiss.ids, milvus.ids)
        rows = faiss.descriptors(faiss.ids.tolist())
        np.testing.assert_array_equal(rows, milvus.descriptors(milvus.ids.tolist()))
        random = np.random.default_rng(0)
        queries = rows[::7] + random.normal(size=rows[::7].shape).astype(np.float32) / 8
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        expected, got = faiss.search(queries), milvus.search(queries)
        assert found(expected) == found(got)
        products = np.sort(queries @ rows.T, axis=1)[:, ::-1][:, :10]
        np.testing.assert_allclose([[hit.score for hit in some] for some in got], products, atol=1e-6)
        sure = [[[hit.confidence or 0 for hit in some] for some in hits] for hits in (expected, got)]
        np.testing.assert_allclose(sure[0], sure[1], atol=1e-4)
        for where in WHERE:
            assert found(faiss.search(queries, where=where)) == found(milvus.search(queries, where=where))
            alike = [i.search(queries, None, where=where, threshold=0.05) for i in (faiss, milvus)]
            assert found(alike[0]) == found(alike[1])
        assert found(faiss.search(queries, threshold=0.3)) == found(milvus.search(queries, threshold=0.3))
        assert near_duplicates(faiss, 0.9) == near_duplicates(milvus, 0.9)


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
    list_them(folder)
    pair.both(lambda index: sync(index, read_collection(folder), model))  # 10, 11 and 30 come back with it
    same_answers(pair)
    pair.both(compact)
    same_answers(pair)
    for index in pair:
        done = verify(index, model)
        assert (done.problems, done.notes) == ((), ())


def test_an_index_remembers_its_backend(pair: Pair, folder: Path, content_model: Any) -> None:
    place = place_of(pair.milvus)
    assert summary(pair.faiss).backend == "faiss"
    assert summary(pair.milvus).backend == f"collection {place.collection} at {place.uri}"
    build(pair.milvus, read_collection(folder), content_model)
    assert place_of(pair.milvus) == place
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(place.uri, place.collection))
    assert place_of(pair.milvus) == place
    build(pair.milvus, read_collection(folder), content_model, backend="faiss")
    assert summary(pair.milvus).backend == "faiss"
    same_answers(pair)
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(place.uri, f"{place.collection}_2"))
    assert place_of(pair.milvus).owner != place.owner
    same_answers(pair)
    assert content_model.described.count(b"content 1") == 2  # once for each index, whatever searches it


def test_few_results_at_a_time_are_put_together(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searched, "MOST_RESULTS", 4)
    monkeypatch.setattr(conditions, "MOST_LISTED", 3)
    monkeypatch.setattr(conditions, "MOST_RANGES", 2)
    monkeypatch.setattr(collection, "RESULTS", 9)
    same_answers(pair)


def test_an_approximate_structure_is_the_servers(
    pair: Pair, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glam.index.saved.FEWEST", 10)
    photos = read_collection(folder)
    for asked, kept in (("ivf_pq", "AUTOINDEX"), ("exact", "FLAT")):
        build(pair.milvus, photos, content_model, structure=asked)
        held = opened_collection(pair.milvus)
        assert held._client.describe_index(held.place.collection, "vector")["index_type"] == kept
        held.close()
        assert not list((pair.milvus / "search").glob("*"))
        same_answers(pair)  # so few are compared one by one whatever is asked for


def test_readers_see_one_moment(pair: Pair, folder: Path, content_model: Any) -> None:
    query = content_model.descriptor(f"content {COUNT}".encode())
    with Index.open(pair.milvus) as before:
        was = found(before.search(query))
        write(folder, COUNT)
        add(pair.milvus, [folder / f"{COUNT}.jpg"], lambda: content_model)
        assert found(before.search(query)) == was
        with Index.open(pair.milvus) as after:
            assert after.search(query)[0][0].entry.path == f"{COUNT}.jpg"
        remove(pair.milvus, ["07.jpg"])
        paths = {hit.entry.path for hit in before.search(query, len(before))[0]}
        assert paths == {before.entry(id).path for id in before.ids.tolist()} - {"07.jpg"}


def test_what_the_collection_lacks_is_searched_beside_it(pair: Pair) -> None:
    """As after a kill, when the catalogue is ahead of the collection."""
    spoil(pair.milvus, missing=[0, 1, 2, 30], strays=[1000, 1001])
    forget_digest(pair.milvus)
    same_answers(pair)


def test_verify_compares_the_collection_with_the_folder(pair: Pair, content_model: Any) -> None:
    spoil(pair.milvus, missing=[0, 1], strays=[1000])
    held = opened_collection(pair.milvus)
    held.put(np.array([7]), np.ones((1, 32), np.float32))
    held.close()
    problems = [problem.what for problem in verify(pair.milvus).problems]
    assert [what[:34] for what in problems] == [
        "2 images are not in the collection",
        "1 rows in the collection test_veri",
        "1 of 38 descriptors in the collect",
    ]
    place = place_of(pair.milvus)
    client = connect(place.uri)
    client.drop_collection(place.collection)
    (problem,) = verify(pair.milvus).problems
    assert problem.what.startswith(f"there is no {place}; any command that writes to the index fills it again")
    remove(pair.milvus, ["39.jpg"])
    remove(pair.faiss, ["39.jpg"])
    assert verify(pair.milvus).problems == ()
    same_answers(pair)
    disconnect(client, place.uri)


def test_a_collection_whose_maker_was_killed_is_finished(
    folder: Path, tmp_path: Path, database: str, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pymilvus makes a collection, then its structure, then loads it."""
    index = tmp_path / "half.glam"
    photos = read_collection(folder)

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("pymilvus.MilvusClient.create_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(index, photos, content_model, backend=Milvus(database))
    assert build(index, photos, content_model).added == COUNT
    assert verify(index).problems == ()


def spoil(index: Path, missing: list[int], strays: list[int]) -> None:
    held = opened_collection(index)
    held.delete(np.array(missing))
    rows = np.random.default_rng(1).normal(size=(len(strays), 32)).astype(np.float32)
    held.put(np.array(strays), rows)
    held.close()


def forget_digest(index: Path) -> None:
    with sqlite3.connect(index / "catalogue.sqlite") as connection:
        ((text,),) = connection.execute("SELECT description FROM about").fetchall()
        about = json.loads(text)
        about["milvus"]["images"] = ""
        connection.execute("UPDATE about SET description = ?", [json.dumps(about)])
    connection.close()


def test_a_catalogue_alone_can_be_searched_elsewhere(
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
        with pytest.raises(GlamError, match="only the index it was copied from can be changed"):
            change()
    with Index.open(copy) as older:
        last = older.entry(int(older.ids.max()))
        remove(pair.milvus, [last.path])
        assert last not in [hit.entry for hit in older.search(np.ones(32, np.float32), COUNT)[0]]
        with pytest.raises(KeyError):
            older.descriptor(last.id)
    forget_digest(copy)
    spoil(pair.milvus, missing=[3], strays=[])
    with pytest.raises(GlamError, match=r"2 images are not in .* yet, and this copy of the index has no descriptors"):
        Index.open(copy)


def test_many_threads_search_at_once(pair: Pair) -> None:
    with Index.open(pair.milvus) as index, futures.ThreadPoolExecutor(4) as pool:
        rows = index.descriptors(index.ids.tolist())
        expected = [index.search(row, 5)[0] for row in rows]
        wheres = [None, "1", "id >= 0", "id < 100"]
        got = list(pool.map(lambda i: index.search(rows[i], 5, where=wheres[i % 4])[0], range(len(rows))))
        assert [found([some]) for some in got] == [found([some]) for some in expected]


# Kills


KILLED = """
import hashlib, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import glam.index.building
from glam.datasets.readers import read_collection
from glam.index import Milvus, build, sync
from glam.index.milvus.collection import Collection

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

glam.index.building.COMMIT_EVERY = 10
left = int(call)
usual = getattr(Collection, moment)

def killed(self, *arguments):
    global left
    left -= 1
    if not left:
        if moment == "put":  # in the middle of a batch
            usual(self, *(argument[:3] for argument in arguments))
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(self, *arguments)

setattr(Collection, moment, killed)
if os.path.exists(index):
    sync(index, read_collection(folder), Model)
else:
    build(index, read_collection(folder), Model(), backend=Milvus(uri))
"""


def test_a_killed_writer_leaves_what_the_next_run_mends(folder: Path, tmp_path: Path, content_model: Any) -> None:
    pair, uri = Pair(tmp_path / "faiss.glam", tmp_path / "milvus.glam"), str(tmp_path / "own.db")
    np.save(folder / "rows.npy", [content_model.descriptor(f"content {i}".encode()) for i in range(COUNT)])

    def kill(moment: str, call: int) -> None:
        arguments = [str(pair.milvus), str(folder), uri, moment, str(call)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

    kill("put", 3)  # while it is built: the third batch is committed, and three of its rows are in the collection
    with Index.open(pair.milvus) as index:
        assert len(index) == 30
        hits = index.search(index.descriptors(index.ids.tolist()), 1)
        assert all(hit.score > 0.999 for (hit,) in hits)
    assert verify(pair.milvus).problems == ()
    build(pair.milvus, read_collection(folder), content_model)
    same_answers(taken_back(pair, folder, content_model))
    for moment, gone in (("delete", "20.jpg"), ("settle", "21.jpg")):
        (folder / gone).unlink()
        list_them(folder)
        kill(moment, 1)
        with Index.open(pair.milvus) as index:
            hits = index.search(content_model.descriptor(f"content {gone[:2]}".encode()), len(index))[0]
            assert gone not in [hit.entry.path for hit in hits]
            assert len(hits) == len(index)
        same = sync(pair.milvus, read_collection(folder), lambda: content_model)
        assert (same.removed, same.added) == (0, 0)
        done = verify(pair.milvus)
        assert (done.problems, done.notes) == ((), ())
        same_answers(taken_back(pair, folder, content_model))


def taken_back(pair: Pair, folder: Path, model: Any) -> Pair:
    """The pair with a copy of the index in Milvus that FAISS searches."""
    shutil.rmtree(pair.faiss, ignore_errors=True)
    shutil.copytree(pair.milvus, pair.faiss)
    build(pair.faiss, read_collection(folder), model, backend="faiss")
    return pair


# Servers by their address


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of its own, as `milvus-lite server` starts one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [str(Path(sys.executable).with_name("milvus-lite")), "server"]
    arguments = ["--data-dir", str(tmp_path / "served.db"), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_a_server_serves_readers_and_a_writer_at_once(
    server: str, folder: Path, tmp_path: Path, content_model: Any
) -> None:
    pair = Pair(tmp_path / "faiss.glam", tmp_path / "served.glam")
    build(pair.faiss, read_collection(folder), content_model)
    build(pair.milvus, read_collection(folder), content_model, backend=Milvus(server))
    assert place_of(pair.milvus).collection == "served"
    program = textwrap.dedent("""
        import sys
        from glam.index import Index
        with Index.open(sys.argv[1]) as index:
            print("open", flush=True)
            for line in sys.stdin:
                (hits,) = index.search(index.descriptor(int(line)), 3)
                print(*(hit.entry.id for hit in hits), flush=True)
    """)
    command = [sys.executable, "-c", program, str(pair.milvus)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        pair.both(lambda index: remove(index, ["20.jpg"]))
        other.stdin.write("0\n19\n")
        other.stdin.close()
        assert [line.split()[0] for line in other.stdout] == ["0", "19"]
    same_answers(pair)


@pytest.fixture
def closed_server() -> Iterator[str]:
    """A server that takes no token."""

    class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            def refuse(request: bytes, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0)


def test_what_goes_wrong_is_one_sentence_and_leaves_no_index(
    pair: Pair, folder: Path, tmp_path: Path, content_model: Any, closed_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(pair.milvus)

    def refused(wanted: Milvus, sentence: str) -> None:
        new = tmp_path / "new.glam"
        with pytest.raises(GlamError, match=sentence) as error:
            build(new, read_collection(folder), content_model, backend=wanted)
        assert "\n" not in str(error.value)
        assert not new.exists()

    refused(Milvus("http://127.0.0.1:1"), "^no Milvus server answers at http://127.0.0.1:1 ")
    refused(Milvus(closed_server), "does not take the token in GLAM_MILVUS_TOKEN")
    refused(Milvus("milvus:19530"), "is no address as http://milvus:19530")
    refused(Milvus("https://root:secret@milvus"), "^the address of milvus holds a user or password")
    refused(Milvus(str(tmp_path / "none" / "x.db")), "there is no folder")
    refused(Milvus(place.uri, "a-b"), "'a-b' cannot name a collection")
    refused(Milvus(place.uri, place.collection), "belongs to another index")
    monkeypatch.setattr(content_model, "fingerprint", "d" * 16)
    refused(Milvus(place.uri, place.collection), "holds descriptors of another model")
    client = connect(place.uri)
    client.create_collection("theirs", dimension=32)
    refused(Milvus(place.uri, "theirs"), "was not made by glam")
    disconnect(client, place.uri)
    for package in ("pymilvus", "milvus_lite"):
        with monkeypatch.context() as without:
            without.setattr("importlib.util.find_spec", lambda name, gone=package: None if name == gone else object())
            if package == "pymilvus":
                without.setitem(sys.modules, package, None)
            name = package.replace("_", "-")
            refused(Milvus(place.uri), rf"wants the package {name}; `pip install 'glam-retrieval\[milvus\]'`")


def test_a_server_that_is_gone_stops_a_writer_before_it_begins(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, folder: Path, content_model: Any
) -> None:
    before = (pair.milvus / "catalogue.sqlite").read_bytes()
    monkeypatch.setenv("GLAM_MILVUS_URI", "http://127.0.0.1:1")
    with pytest.raises(GlamError, match=r"no Milvus server answers at http://127.0.0.1:1"):
        remove(pair.milvus, ["01.jpg"])
    with pytest.raises(GlamError, match="no Milvus server answers"):
        Index.open(pair.milvus)
    assert (pair.milvus / "catalogue.sqlite").read_bytes() == before
    build(pair.milvus, read_collection(folder), content_model, backend="faiss")  # the way out
    same_answers(pair)


def test_one_that_goes_meanwhile_costs_nothing_that_was_done(
    pair: Pair, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Collection, *rows: object) -> None:
        raise GlamError("no Milvus server answers")

    write(folder, COUNT)
    new = folder / f"{COUNT}.jpg"
    with monkeypatch.context() as broken:
        broken.setattr(Collection, "put", fail)
        with pytest.raises(GlamError, match="keeps all that was done, and any later command that writes brings"):
            add(pair.milvus, [new], lambda: content_model)
    add(pair.faiss, [new], lambda: content_model)
    same_answers(pair)
    assert add(pair.milvus, [new], lambda: content_model).unchanged == 1
    assert verify(pair.milvus).problems == ()
    same_answers(pair)


def test_the_database_of_another_process_is_told(tmp_path: Path) -> None:
    uri = str(tmp_path / "held.db")
    program = "import sys; from glam.index.milvus.connection import connect; c = connect(sys.argv[1]); print(flush=1)"
    command = [sys.executable, "-c", program + "; input()", uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(GlamError, match="another process has this database of Milvus Lite open"):
            connect(uri)
        other.communicate("\n")
    disconnect(connect(uri), uri)


# The command line


def test_a_day_on_the_command_line(
    folder: Path, tmp_path: Path, database: str, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = content_model.settings()
    monkeypatch.setattr(content_model, "settings", lambda **asked: settings)
    monkeypatch.setattr(glam, "load", lambda name, device=None: content_model)
    index = tmp_path / "a day.glam"

    def run(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == code, f"{done.output}{done.exception!r}"
        return done.stdout if code == 0 else done.stderr

    new = ("index", "build", index, folder)
    assert "wants the address" in run(*new, "--backend", "milvus", code=2)
    assert "go with --backend milvus" in run(*new, "--uri", database, code=2)
    assert f"{COUNT} images added" in run(*new, "--backend", "milvus", "--uri", database)
    assert json.loads(run("index", "info", index, "--json"))["backend"] == f"collection a_day at {database}"
    hits = json.loads(run("search", index, folder / "08.jpg", "--where", "year < 2010", "--top", 3, "--json"))
    assert (len(hits), hits[0]["path"], hits[0]["metadata"]["year"] < 2010) == (3, "08.jpg", True)
    assert len(json.loads(run("search", index, folder / "08.jpg", "--threshold", 0.99, "--json"))) == 1
    (twins,) = json.loads(run("index", "duplicates", index, "--json"))
    assert {image["path"] for image in twins["images"]} == {"03.jpg", "04.jpg"}
    assert "1 images removed" in run("index", "remove", index, "04.jpg")
    assert json.loads(run("index", "duplicates", index, "--json")) == []
    assert "39 unchanged" in run("index", "sync", index, folder)  # and 04.jpg comes back
    assert len(json.loads(run("index", "duplicates", index, "--json"))) == 1
    run("index", "compact", index)
    assert "nothing wrong (40 images" in run("index", "verify", index)


def test_a_token_is_sent_and_never_kept(
    pair: Pair, closed_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[str] = []
    usual = __import__("pymilvus").MilvusClient

    def client(uri: str, token: str = "", **others: Any) -> Any:
        sent.append(token)
        return usual(uri, token=token, **others)

    monkeypatch.setattr("pymilvus.MilvusClient", client)
    monkeypatch.setenv("GLAM_MILVUS_TOKEN", "root:secret")
    monkeypatch.setenv("GLAM_MILVUS_URI", closed_server)
    with pytest.raises(GlamError, match="does not take the token") as error:
        Index.open(pair.milvus)
    assert "secret" not in str(error.value)
    assert sent == ["root:secret"]
    assert b"secret" not in b"".join(file.read_bytes() for file in pair.milvus.rglob("*") if file.is_file())
