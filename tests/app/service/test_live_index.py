"""The service as it runs: hostile uploads over a real socket, stopping in the middle of requests, the log."""

import io
import json
import logging
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import glam
from glam.app.client import form
from glam.app.service.app import create_app
from glam.app.service.log import JsonLines
from glam.app.service.middleware.auth import Access
from glam.app.service.server import Server
from glam.app.service.settings import ServiceLimits
from glam.datasets.readers import read_folder
from glam.index import Index, build
from glam.inference.pipeline import Settings
from glam.model import Model

from .colors import wait_until

Draw = Callable[..., Image.Image]
LIMITS = ServiceLimits(body_seconds=1.0)
MB = 1_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return glam.load("glam-lite0", "cpu")


@pytest.fixture
def index(tmp_path: Path, model: Model, draw_image: Draw) -> Path:
    (tmp_path / "images").mkdir()
    for seed in range(3):
        draw_image(64, 48, seed).save(tmp_path / "images" / f"{seed}.png")
    build(tmp_path / "i.glam", read_folder(tmp_path / "images"), model, settings=Settings(64, workers=1))
    return tmp_path / "i.glam"


@contextmanager
def running(index: Path, model: Model, limits: ServiceLimits, serve: Any) -> Iterator[tuple[int, Server]]:
    """The service on a port, in a thread."""
    access = Access(allow_writes=True, loopback_only=True)
    app = create_app(Index.open(index), model, limits, access, owns_index=True)
    with serve(app) as service:
        yield service


@pytest.fixture
def port(index: Path, model: Model, serve: Any) -> Iterator[int]:
    with running(index, model, LIMITS, serve) as (port, _):
        yield port


def post(port: int, data: bytes, path: str = "/api/search") -> tuple[int, str]:
    """Status and sentence of an upload."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        body, kind = form({}, data)
        connection.request("POST", path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("detail", "")


def png(draw: Draw, seed: int = 9) -> bytes:
    out = io.BytesIO()
    draw(64, 48, seed).save(out, "PNG")
    return out.getvalue()


def png_that_unfolds(width: int, height: int) -> bytes:
    """A small file of very many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
GIF_AND_SCRIPT = b"GIF89a/*" + bytes(100) + b"*/=1;alert(1)"
HOSTILE = {
    "SVG": (SVG, 415),
    "HTML": (b"<!doctype html><script>alert(1)</script>", 415),
    "PDF": (b"%PDF-1.7\n" + bytes(500), 415),
    "ZIP": (b"PK\x03\x04" + bytes(500), 415),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
    "script that begins like a GIF": (GIF_AND_SCRIPT, 415),
    "20 megapixels in a few bytes, cut": (png_that_unfolds(4000, 4000)[:200], 422),
    "400 megapixels in a few bytes": (png_that_unfolds(20_000, 20_000), 413),
}


@pytest.mark.parametrize("path", ["/api/search", "/api/images", "/api/attention"])
def test_hostile_uploads_are_refused_with_a_sentence_in_little_time_and_memory(
    port: int, index: Path, path: str
) -> None:
    before = memory()
    for name, (data, status) in HOSTILE.items():
        began = time.monotonic()
        assert post(port, data, path)[0] == status, name
        assert post(port, data, path)[1].endswith("."), name
        assert time.monotonic() - began < 10, name
    assert memory() - before < 100 * MB
    assert len(list((index.parent / "images").iterdir())) == 3


def test_an_image_with_a_script_behind_it_is_an_image_and_served_as_one(port: int, draw_image: Draw) -> None:
    polyglot = png(draw_image) + b"<script>alert(1)</script>"
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        body, kind = form({}, polyglot)
        connection.request("POST", "/api/images", body, {"Content-Type": kind})
        added = json.loads(connection.getresponse().read())
        connection.request("GET", f"/api/images/{added['image_id']}/file")
        answer = connection.getresponse()
        assert answer.read() == polyglot
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert added["path"].endswith(".png")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_200_mb_is_refused_with_413_and_never_held(port: int, declared: bool) -> None:
    before = memory()
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        length = f"Content-Length: {200 * MB}" if declared else "Transfer-Encoding: chunked"
        kind = "Content-Type: multipart/form-data; boundary=b"
        head = f"POST /api/search HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n{length}\r\n\r\n"
        part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        connection.sendall(head.encode() + (part if declared else chunk(part)))
        block = bytes(MB) if declared else chunk(bytes(MB))
        try:
            for _ in range(200):
                connection.sendall(block)
        except OSError:
            pass  # the service has heard enough
        answer = b""
        while b"megabytes" not in answer and b"MB" not in answer:
            more = connection.recv(10_000)
            assert more, answer
            answer += more
    assert answer.startswith(b"HTTP/1.1 413")
    assert memory() - before < 60 * MB


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_body_that_comes_too_slowly_is_given_up_with_408(port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        kind = "Content-Type: multipart/form-data; boundary=b"
        head = f"POST /api/search HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: 1000\r\n\r\n--b\r\n"
        connection.sendall(head.encode())
        began = time.monotonic()
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert LIMITS.body_seconds * 0.9 < time.monotonic() - began < 10


def test_a_name_that_was_made_to_point_here_cannot_ask(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", "/api/info", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 400


@pytest.mark.parametrize(
    "image_id", ["../1", "..%2f1", "%2e%2e", "1%00", "1;ls", "-1", "1e3", "0x1", "9" * 400, "%F0%9F%98%80"]
)
@pytest.mark.parametrize("what", ["", "/file", "/thumbnail", "/search"])
def test_an_odd_number_of_an_image_is_a_4xx_with_a_sentence(port: int, image_id: str, what: str) -> None:
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", f"/api/images/{image_id}{what}")
        answer = connection.getresponse()
        assert 400 <= answer.status < 500
        assert json.loads(answer.read())["detail"]


def test_stopped_in_the_middle_of_50_requests_all_are_answered_and_new_ones_refused(
    index: Path, model: Model, draw_image: Draw, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: Counter[int | str] = Counter()
    with running(index, model, ServiceLimits(), serve) as (port, server):
        slow_down(server, monkeypatch)
        requests = [threading.Thread(target=note, args=(statuses, port, png(draw_image, seed))) for seed in range(50)]
        for thread in requests:
            thread.start()
        wait_until(lambda: server._in_flight.count == 50, seconds=20)
        server.handle_exit(15, None)
        late: Counter[int | str] = Counter()
        note(late, port, png(draw_image, 99))
        assert late == {503: 1}
        with closing(HTTPConnection("127.0.0.1", port)) as probe:
            probe.request("GET", "/readyz")
            assert probe.getresponse().status == 503
        for thread in requests:
            thread.join()
    assert statuses == {200: 50}
    note(statuses, port, b"")
    assert statuses["refused"] == 1


def slow_down(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the network take its time, so that many requests wait."""
    app: Any = server.config.app
    network = app.state.glam.describer._network
    work = network._work

    def slowly(images: Any) -> Any:
        time.sleep(0.3)
        return work(images)

    monkeypatch.setattr(network, "_work", slowly)


def note(statuses: "Counter[int | str]", port: int, data: bytes) -> None:
    try:
        statuses[post(port, data)[0]] += 1
    except ConnectionRefusedError:
        statuses["refused"] += 1
    except Exception as error:  # noqa: BLE001  (counted, and the test fails)
        statuses[repr(error)] += 1


def test_each_request_has_a_number_in_its_answer_and_a_line_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "glam.service")
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        for given, kept in (("abc-1", True), ("bad id\t", False), ("x" * 65, False)):
            connection.request("GET", "/api/images/77", headers={"X-Request-ID": given})
            answer = connection.getresponse()
            answer.read()
            assert (answer.headers["x-request-id"] == given) == kept
    wait_until(lambda: len(caplog.records) >= 3, seconds=20)
    line = json.loads(JsonLines().format(caplog.records[0]))
    assert (line["request_id"], line["method"], line["status"]) == ("abc-1", "GET", 404)
    assert (line["path"], line["event"], line["level"]) == ("/api/images/77", "request", "info")


def test_the_metrics_count_requests_by_the_pattern_of_their_path(port: int, draw_image: Draw) -> None:
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        for path in ("/api/images/0", "/api/images/1", "/api/images/77", "/metrics"):
            connection.request("GET", path)
            text = connection.getresponse().read().decode()
    assert 'glam_requests_total{method="GET",route="/api/images/{image_id}",status="200"} 2.0' in text
    assert 'glam_requests_total{method="GET",route="/api/images/{image_id}",status="404"} 1.0' in text
    assert "glam_index_images 3.0" in text
    assert 'glam_queue_waiting{queue="network"} 0.0' in text


def memory() -> int:
    """Bytes that this process holds beyond mapped files; the service runs in it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))
