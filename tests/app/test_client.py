"""`glam.Client` against a real server."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

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


def test_the_load_of_a_benchmark_counts_what_it_saw(url: str, root: Path) -> None:
    images = [file.read_bytes() for file in sorted(root.rglob("*.png"))]
    seen = load(url, images, clients=3, seconds=0.5, token="read").to_dict()
    assert seen["answered"] > 3
    assert (seen["refused_503"], seen["failed"]) == (0, 0)
    with pytest.raises(glam.GlamError, match="Check that the service runs"):
        load("http://127.0.0.1:1", images, clients=1, seconds=0.1)
