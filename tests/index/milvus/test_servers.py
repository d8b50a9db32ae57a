"""Milvus servers: several clients, rejected tokens, servers that stop, and collections of other owners."""

import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glam.datasets.readers import read_collection
from glam.errors import GlamError
from glam.index import Index, Milvus, add, build, remove, verify
from glam.index.milvus.collection import MilvusCollection
from glam.index.milvus.connection import connect, disconnect

from .pairs import COUNT, Pair, config_of, same_answers, write


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server started with `milvus-lite server`."""
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
    assert config_of(pair.milvus).collection == "served"
    program = textwrap.dedent("""
        import sys
        from glam.index import Index
        with Index.open(sys.argv[1]) as index:
            print("open", flush=True)
            for line in sys.stdin:
                (hits,) = index.search(index.descriptor(int(line)), 3)
                print(*(hit.image_id for hit in hits), flush=True)
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


def test_errors_are_one_line_and_leave_no_index(
    pair: Pair, folder: Path, tmp_path: Path, content_model: Any, closed_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(pair.milvus)

    def refused(milvus: Milvus, sentence: str) -> None:
        new = tmp_path / "new.glam"
        with pytest.raises(GlamError, match=sentence) as error:
            build(new, read_collection(folder), content_model, backend=milvus)
        assert "\n" not in str(error.value)
        assert not new.exists()

    refused(Milvus("http://127.0.0.1:1"), "^No Milvus server answers at http://127.0.0.1:1 ")
    refused(Milvus(closed_server), "rejects the token .*GLAM_MILVUS_TOKEN to a valid one")
    refused(Milvus("milvus:19530"), "is not the address of a Milvus server. Give one like http://milvus:19530")
    refused(Milvus("https://root:secret@milvus"), "^The address of milvus contains a user or password")
    refused(Milvus(str(tmp_path / "none" / "x.db")), "the folder .* does not exist")
    refused(Milvus(config.uri, "a-b"), "'a-b' cannot name a Milvus collection")
    refused(Milvus(config.uri, config.collection), "belongs to another index")
    monkeypatch.setattr(content_model, "fingerprint", "d" * 16)
    refused(Milvus(config.uri, config.collection), "holds descriptors of another model")
    client = connect(config.uri)
    client.create_collection("theirs", dimension=32)
    refused(Milvus(config.uri, "theirs"), "was not created by glam")
    disconnect(client, config.uri)
    for package in ("pymilvus", "milvus_lite"):
        with monkeypatch.context() as without:
            without.setattr("importlib.util.find_spec", lambda name, gone=package: None if name == gone else object())
            if package == "pymilvus":
                without.setitem(sys.modules, package, None)
            name = package.replace("_", "-")
            refused(
                Milvus(config.uri), rf"needs the package {name}. Install it: `pip install 'glam-retrieval\[milvus\]'`"
            )


def test_a_writer_changes_nothing_if_the_server_is_down(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, folder: Path, content_model: Any
) -> None:
    before = (pair.milvus / "catalogue.sqlite").read_bytes()
    monkeypatch.setenv("GLAM_MILVUS_URI", "http://127.0.0.1:1")
    with pytest.raises(GlamError, match=r"No Milvus server answers at http://127.0.0.1:1"):
        remove(pair.milvus, ["01.jpg"])
    with pytest.raises(GlamError, match="No Milvus server answers"):
        Index.open(pair.milvus)
    assert (pair.milvus / "catalogue.sqlite").read_bytes() == before
    build(pair.milvus, read_collection(folder), content_model, backend="faiss")  # the remedy
    same_answers(pair)


def test_committed_changes_survive_a_server_failure(
    pair: Pair, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: MilvusCollection, *rows: object) -> None:
        raise GlamError("No Milvus server answers.")

    write(folder, COUNT)
    new = folder / f"{COUNT}.jpg"
    with monkeypatch.context() as broken:
        broken.setattr(MilvusCollection, "put", fail)
        with pytest.raises(
            GlamError, match=r"The changes are saved in .*; the next command that writes to it updates Milvus"
        ):
            add(pair.milvus, [new], lambda: content_model)
    add(pair.faiss, [new], lambda: content_model)
    same_answers(pair)
    assert add(pair.milvus, [new], lambda: content_model).unchanged == 1
    assert verify(pair.milvus).problems == ()
    same_answers(pair)


def test_a_database_open_in_another_process_is_reported(tmp_path: Path) -> None:
    uri = str(tmp_path / "held.db")
    program = "import sys; from glam.index.milvus.connection import connect; c = connect(sys.argv[1]); print(flush=1)"
    command = [sys.executable, "-c", program + "; input()", uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(GlamError, match=r"Another process has the Milvus Lite database .* open"):
            connect(uri)
        other.communicate("\n")
    disconnect(connect(uri), uri)


def test_a_token_is_sent_and_never_stored(
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
    with pytest.raises(GlamError, match="rejects the token") as error:
        Index.open(pair.milvus)
    assert "secret" not in str(error.value)
    assert sent == ["root:secret"]
    assert b"secret" not in b"".join(file.read_bytes() for file in pair.milvus.rglob("*") if file.is_file())
