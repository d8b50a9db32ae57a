"""Adding and removing images through the API, on an index of real files with a real model."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

import glam
from glam.app.service.app import create_app
from glam.app.service.middleware.auth import Access
from glam.app.service.middleware.errors import public_sentence
from glam.app.service.workers.write import normalize_landmark, parse_metadata
from glam.datasets.collection import NOTHING_SKIPPED
from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, build, sync, verify
from glam.index.storage.lock import write_lock
from glam.index.storage.source_config import SourceConfig
from glam.index.writer import open_writer
from glam.inference.pipeline import Settings
from glam.model import Model

from .colors import encoded

Draw = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def model() -> Model:
    return glam.load("glam-lite0", "cpu")


@pytest.fixture
def index(tmp_path: Path, model: Model, draw_image: Draw) -> Path:
    (tmp_path / "images" / "bridge").mkdir(parents=True)
    for seed in range(3):
        draw_image(64, 48, seed).save(tmp_path / "images" / "bridge" / f"{seed}.png")
    build(tmp_path / "i.glam", read_folder(tmp_path / "images"), model, settings=Settings(64, workers=1))
    return tmp_path / "i.glam"


@pytest.fixture
def client(index: Path, model: Model) -> Iterator[TestClient]:
    app = create_app(Index.open(index), model, access=Access(allow_writes=True), owns_index=True)
    with TestClient(app) as client:
        yield client


@pytest.fixture
def data(draw_image: Draw) -> bytes:
    return encoded(draw_image(64, 48, 9))


def post(client: TestClient, data: bytes, name: str = "x.png", **fields: str) -> Any:
    return client.post("/api/images", files={"image": (name, data)}, data=fields)


def files(index: Path) -> list[str]:
    root = index.parent / "images"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_an_added_image_is_found_at_once_and_is_there_after_a_restart(
    client: TestClient, index: Path, model: Model, data: bytes
) -> None:
    answer = post(client, data, landmark="tower", metadata='{"city": "Paris", "year": 1889}')
    assert answer.status_code == 201, answer.text
    added = answer.json()
    assert (added["landmark"], added["width"], added["height"]) == ("tower", 64, 48)
    assert added["metadata"] == {"city": "Paris", "year": 1889}
    assert (index.parent / "images" / added["path"]).read_bytes() == data

    found = client.post("/api/search", files={"image": data}, data={"where": "year > 1800"}).json()["results"]
    assert [result["image"] for result in found] == [added]
    assert found[0]["score"] > 0.999
    assert client.get(f"/api/images/{added['image_id']}/file").content == data
    with Index.open(index) as opened:
        assert opened.entry(added["image_id"]).path == added["path"]
    assert verify(index, lambda: model, sample=4).problems == ()


def test_the_folder_of_an_added_image_names_its_landmark_so_that_a_sync_keeps_it(
    client: TestClient, index: Path, model: Model, data: bytes
) -> None:
    added = post(client, data, landmark="tower").json()
    report = sync(index, read_folder(index.parent / "images"), lambda: model)
    assert (report.unchanged, report.added, report.removed) == (4, 0, 0)
    with Index.open(index) as opened:
        assert opened.entry(added["image_id"]).landmark == "tower"


def test_the_same_file_again_keeps_its_number_and_gets_the_new_metadata(client: TestClient, data: bytes) -> None:
    first = post(client, data, landmark="tower", metadata='{"year": 1}').json()
    again = post(client, data, landmark="tower", metadata='{"year": 2}').json()
    assert again == {**first, "metadata": {"year": 2}}
    assert client.get("/api/info").json()["images"] == 4


def test_a_removed_image_is_not_found_any_more_and_its_file_stays(client: TestClient, index: Path) -> None:
    before = files(index)
    assert client.delete("/api/images/1").status_code == 204
    assert client.get("/api/images/1").status_code == 404
    assert client.delete("/api/images/1").status_code == 404
    found = client.get("/api/images/0/search").json()["results"]
    assert [result["image"]["image_id"] for result in found] == [2]
    assert files(index) == before


NAMES = ["../../evil.png", "/etc/passwd", "..\\..\\evil.png", "evil.png\0.txt", "a/b/c.png", ".hidden", "x" * 5000]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_upload_becomes_no_part_of_a_path(
    client: TestClient, index: Path, data: bytes, name: str
) -> None:
    around = set(index.parent.iterdir())
    answer = post(client, data, name)
    assert answer.status_code in (201, 400, 422), answer.text
    new = set(files(index)) - {f"bridge/{seed}.png" for seed in range(3)}
    assert all("/" not in path and path.endswith(".png") and len(path) == 36 for path in new)
    assert set(index.parent.iterdir()) == around


def test_a_landmark_whose_folder_the_index_leaves_out_is_refused(client: TestClient, index: Path, data: bytes) -> None:
    with open_writer(index) as writer:
        writer.change_config(source=SourceConfig(".", ("draft*",), False, "none", False, NOTHING_SKIPPED))
    for landmark in ("@eaDir", "draft 1"):
        answer = post(client, data, landmark=landmark)
        assert (answer.status_code, answer.json()["detail"][:9]) == (422, "landmark:")
    assert post(client, data, landmark="tower").status_code == 201


@pytest.mark.parametrize(
    "landmark", ["..", "../up", "/etc", "a/b", "a\\b", ".git", "a\0b", "a\nb", "x" * 101, "\u202eevil"]
)
def test_a_landmark_that_could_lead_elsewhere_is_refused(
    client: TestClient, index: Path, data: bytes, landmark: str
) -> None:
    before = files(index)
    answer = post(client, data, landmark=landmark)
    assert (answer.status_code, answer.json()["detail"][:9]) == (422, "landmark:")
    assert files(index) == before


def test_a_folder_that_is_a_link_out_of_the_index_is_not_written_to(
    client: TestClient, index: Path, data: bytes
) -> None:
    outside = index.parent / "outside"
    outside.mkdir()
    (index.parent / "images" / "tower").symlink_to(outside)
    assert post(client, data, landmark="tower").status_code == 422
    assert list(outside.iterdir()) == []


def test_what_is_no_image_is_refused_and_nothing_is_written(client: TestClient, index: Path, data: bytes) -> None:
    before = files(index)
    for bad, status in ((b"text", 415), (b"", 422), (data[: len(data) // 2], 422)):
        assert post(client, bad).status_code == status
    assert files(index) == before
    assert client.get("/api/info").json()["images"] == 3


def test_while_another_writer_is_at_work_the_answer_is_409_and_no_file_is_left(
    client: TestClient, index: Path, data: bytes
) -> None:
    before = files(index)
    with write_lock(index):
        for answer in (post(client, data), client.delete("/api/images/0")):
            assert answer.status_code == 409
            assert "in use by" in answer.json()["detail"]
            assert answer.headers["retry-after"]
    assert files(index) == before
    assert post(client, data).status_code == 201


def test_a_service_without_leave_to_write_says_so(index: Path, model: Model, data: bytes) -> None:
    with Index.open(index) as opened, TestClient(create_app(opened, model)) as client:
        assert client.get("/api/info").json()["writable"] is False
        assert post(client, data).status_code == 403
        assert client.delete("/api/images/0").status_code == 403


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{", '{"a": [1]}', '{"a": {}}', '{"a": NaN}', '{"": 1}', '{"a\\"b": 1}', '{"a": 1e999}']
)
def test_metadata_that_cannot_be_kept_is_refused(client: TestClient, data: bytes, text: str) -> None:
    answer = post(client, data, metadata=text)
    if text == "":  # a form cannot tell an empty field from none
        assert answer.status_code == 201
    else:
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("metadata: ")


def test_landmarks_and_metadata_that_are_fine_pass() -> None:
    assert normalize_landmark(" São Paulo, Sé (1913) ") == "São Paulo, Sé (1913)"
    values = {"city": "東京", "year": 1958, "height": 332.9, "open": True, "closed": None}
    assert parse_metadata(json.dumps(values)) == values


@pytest.mark.parametrize(
    "named", [lambda path: path, lambda path: path.resolve(), lambda path: path / "checksums.json"]
)
def test_a_message_for_clients_does_not_tell_where_the_index_is(tmp_path: Path, named: Any) -> None:
    index = tmp_path / "places.glam"
    sentence = public_sentence(GlamError(f"{named(index)}: the disk is full"), index, tmp_path / "photos")
    assert str(tmp_path) not in sentence
    assert sentence.startswith("places.glam")
    assert sentence.endswith(": the disk is full.")


def test_a_message_for_clients_is_a_sentence() -> None:
    assert public_sentence(GlamError("the disk is full"), Path("i.glam")) == "The disk is full."
