"""`glam.Client` against a real server."""

import io
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glam
from glam.app.bench.load import load
from glam.app.service.app import create_app
from glam.app.service.middleware.auth import Access
from glam.datasets.readers import read_folder
from glam.index import Index, build
from glam.inference.pipeline import Settings

Draw = Callable[..., Image.Image]


@pytest.fixture
def root(tmp_path: Path, draw_image: Draw) -> Path:
    (tmp_path / "images" / "bridge").mkdir(parents=True)
    for seed in range(3):
        draw_image(64, 48, seed).save(tmp_path / "images" / "bridge" / f"{seed}.png")
    return tmp_path / "images"


@pytest.fixture
def url(root: Path, serve: Any) -> Iterator[str]:
    model, path = glam.load("glam-lite0", "cpu"), root.parent / "i.glam"
    build(path, read_folder(root), model, settings=Settings(64, workers=1))
    app = create_app(Index.open(path), model, access=Access("read", "write", loopback_only=True), owns_index=True)
    with serve(app, 5) as (port, _):
        yield f"http://127.0.0.1:{port}"


def test_searching_adding_and_removing(url: str, root: Path, draw_image: Draw) -> None:
    client = glam.Client(url, "write")
    file = root / "bridge" / "1.png"
    for query in (file, str(file), file.read_bytes(), Image.open(file)):
        answer = client.search(query, top=2)
        assert (answer.results[0].image.path, len(answer.results), answer.more) == ("bridge/1.png", 2, True)
    assert [result.image.image_id for result in client.search(0, top=5).results if result.image.image_id == 0] == []
    assert client.search(file, box=(0, 0, 32, 24), where="landmark = 'bridge'").query.box == (0, 0, 32, 24)
    new = root.parent / "new.png"
    draw_image(64, 48, 7).save(new)
    added = client.add(new, landmark="tower", metadata={"city": "Paris"})
    assert client.image(added.image_id) == added
    assert client.search(new, top=1).results[0].image == added
    assert [column.name for column in client.filters() if column.name == "city"] == ["city"]
    client.remove(added.image_id)
    assert client.info().images == 3
    with pytest.raises(glam.GlamError, match="There is no image"):
        client.image(added.image_id)


def test_errors_are_the_sentences_of_the_service(url: str, root: Path) -> None:
    with pytest.raises(glam.GlamError, match="A token is required"):
        glam.Client(url).filters()
    with pytest.raises(glam.GlamError, match="A write token is required"):
        glam.Client(url, "read").remove(0)
    with pytest.raises(glam.GlamError, match="not an image"):
        glam.Client(url, "read").search(b"text")
    with pytest.raises(glam.GlamError, match="cannot be read: No such file"):
        glam.Client(url, "read").search(root / "none.png")
    with pytest.raises(glam.GlamError, match="does not answer"):
        glam.Client("http://127.0.0.1:1").info()
    with pytest.raises(glam.GlamError, match="not an address"):
        glam.Client("localhost:8000")


def test_a_service_that_is_busy_is_asked_again() -> None:
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503 if len(asked) < 3 else 200)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b'{"columns": []}' if len(asked) == 3 else b'{"detail": "Busy."}')

        def log_message(self, *facts: object) -> None:
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert glam.Client(url).filters() == []
        asked.clear()
        with pytest.raises(glam.GlamError, match="Busy"):
            glam.Client(url, tries=2).filters()
        assert len(asked) == 2
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Reply = tuple[int, bytes, dict[str, str]]


class Stand:
    """A server that answers everything with one reply."""

    def __init__(self) -> None:
        self.raw = b""

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        given = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
        head = f"HTTP/1.1 {status} Reason\r\n" + "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.raw = head.encode() + b"\r\n" + body


@pytest.fixture
def stand() -> Iterator[tuple[str, Stand]]:
    found = Stand()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += self.request.recv(65_536)
            self.request.sendall(found.raw)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", found
        server.shutdown()
        thread.join()


SECRET = "very-secret"
INFO = b'{"images":1,"model":"m","dimension":3,"limits":{"bytes":1,"pixels":1},"writable":true,"needs_token":true,'
ANSWERS: dict[str, Reply] = {
    "a web page": (200, b"<html>hello</html>", {}),
    "nothing": (200, b"", {}),
    "other JSON": (200, b'{"status": "fine"}', {}),
    "JSON that is no object": (200, b"[1, 2]", {}),
    "bytes that are no text": (200, bytes(range(128, 256)), {}),
    "brackets": (200, b"[" * 100_000, {}),
    "an answer cut off": (200, INFO, {"Content-Length": "9999"}),
    "an error with a web page": (500, b"<html>", {}),
    "an error with JSON that is no object": (500, b"[]", {}),
    "an error with an object in place of a sentence": (500, b'{"detail": {"a": 1}}', {}),
    "an error with several lines": (500, b'{"detail": "one\\ntwo\\r\\nthree"}', {}),
    "an error with a long message": (500, b'{"detail": "' + b"x" * 100_000 + b'"}', {}),
    "an error that repeats the token": (401, b'{"detail": "' + SECRET.encode() + b' is wrong"}', {}),
    "an error cut off": (500, b"{", {"Content-Length": "99"}),
    "busy, a negative time": (503, b"{}", {"Retry-After": "-1"}),
    "busy, no number": (503, b"{}", {"Retry-After": "nan"}),
    "busy, a date": (503, b"{}", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    "a redirection to itself": (302, b"", {"Location": "/api/info"}),
    "a redirection to an invalid address": (302, b"", {"Location": "http://[::1/"}),
    "a redirection to a file": (302, b"", {"Location": "file:///etc/passwd"}),
    "too many headers": (200, b"", {f"X-{i}": "x" for i in range(200)}),
    "an unknown encoding": (200, b"{}", {"Transfer-Encoding": "chunked"}),
}
RAW = {
    "no HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "a long line": b"x" * 200_000,
    "a bad status": b"HTTP/1.1 abc\r\n\r\n",
    "": b"",
}


@pytest.mark.parametrize("name", [*ANSWERS, *RAW])
def test_whatever_answers_is_one_error_of_one_line_without_the_token(name: str, stand: tuple[str, Stand]) -> None:
    url, server = stand
    if name in RAW:
        server.raw = RAW[name]
    else:
        server.reply(*ANSWERS[name])
    client = glam.Client(url, SECRET, tries=2, timeout=10)
    for ask in (client.info, client.filters, lambda: client.search(b"image"), lambda: client.remove(1)):
        with pytest.raises(glam.GlamError) as error:
            ask()
        message = str(error.value)
        assert message.startswith(url)
        assert len(message.splitlines()) == 1
        assert len(message) < 1_000
        assert SECRET not in message


def test_an_answer_that_drips_in_is_given_up() -> None:
    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            with suppress(OSError):
                for _ in range(1000):
                    self.request.sendall(b" ")
                    time.sleep(0.02)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(glam.GlamError, match="takes too long"):
                glam.Client(f"http://127.0.0.1:{server.server_address[1]}", timeout=0.3).info()
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "http://", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", "http://a b", "",
     None, "ftp://a", "http://a\nb", "http://münchen", "http://a/?b", "http://127.0.0.1:0"],
)  # fmt: skip
def test_what_is_no_address_is_said_at_once(url: Any) -> None:
    with pytest.raises(glam.GlamError, match="not an address of a service"):
        glam.Client(url)


@pytest.mark.parametrize("token", ["", " ", "a\nb", "日本", "a\x00b"])
def test_a_token_that_cannot_be_sent_is_not_shown(token: str) -> None:
    with pytest.raises(glam.GlamError, match="token is empty or has characters") as error:
        glam.Client("http://127.0.0.1:1", token)
    assert not token.strip() or token not in str(error.value)


def test_a_token_read_from_a_file_may_end_with_a_line_break(url: str) -> None:
    assert glam.Client(url, "read\n").filters()


def test_a_password_in_the_address_is_not_shown() -> None:
    with pytest.raises(glam.GlamError, match="token=") as error:
        glam.Client("http://user:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(error.value)


def test_queries_of_every_kind(url: str, root: Path) -> None:
    client = glam.Client(url, "read")
    content = (root / "bridge" / "1.png").read_bytes()
    for query in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        assert client.search(query, top=1).results[0].image.path == "bridge/1.png"
    assert client.search(np.int64(0), top=1).query.image == client.image(0)


@pytest.mark.parametrize("query", [None, 1.5, [1], {"a": 1}, True, Path("/"), "\0", io.StringIO("text"), object()])
def test_what_is_no_image_is_one_error(url: str, query: Any) -> None:
    with pytest.raises(glam.GlamError):
        glam.Client(url, "read").search(query)


def test_arguments_that_cannot_be_sent_are_one_error(url: str) -> None:
    client = glam.Client(url, "write")
    calls: list[Callable[[], object]] = [
        lambda: client.search(0, box=(1, 2, 3)),  # type: ignore[arg-type]
        lambda: client.search(0, where="\ud800"),
        lambda: client.search(b"x", where="\ud800"),
        lambda: client.add(b"x", metadata={"a": object()}),
        lambda: client.image("1 2"),  # type: ignore[arg-type]
        lambda: client.remove("a\r\nb"),  # type: ignore[arg-type]
        lambda: glam.Client(url, tries=0),
        lambda: glam.Client(url, timeout=float("nan")),
    ]
    for call in calls:
        with pytest.raises(glam.GlamError):
            call()


def test_the_load_of_a_benchmark_counts_what_it_saw(url: str, root: Path) -> None:
    images = [file.read_bytes() for file in sorted(root.rglob("*.png"))]
    seen = load(url, images, clients=3, seconds=0.5, token="read").to_dict()
    assert seen["answered"] > 3
    assert (seen["refused_503"], seen["failed"]) == (0, 0)
    with pytest.raises(glam.GlamError, match="Check that the service runs"):
        load("http://127.0.0.1:1", images, clients=1, seconds=0.1)
