"""What the API tells of an image, its file and its thumbnail."""

import io
import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from .colors import (
    BLUE,
    GREEN,
    ColorModel,
    app_of,
    index_of,
    refused,
)


@pytest.mark.parametrize("image_id", ["4", "-1", str(2**70)])
@pytest.mark.parametrize("what", ["", "/search", "/file", "/thumbnail"])
def test_an_unknown_image_is_not_found(client: TestClient, image_id: str, what: str) -> None:
    assert image_id in refused(client.get(f"/api/images/{image_id}{what}"), 404)


def test_an_entry_tells_path_landmark_and_size(client: TestClient) -> None:
    metadata = {"kind": "test", "number": 3}
    expected = {
        **{"image_id": 3, "path": "both.jpg", "landmark": "both", "width": 80, "height": 40, "metadata": metadata},
        **{"id": 3, "label": "both"},  # deprecated names
    }
    assert client.get("/api/images/3").json() == expected


def test_a_file_is_served_as_it_is(client: TestClient, root: Path) -> None:
    answer = client.get("/api/images/0/file")
    assert answer.content == (root / "red.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("inline")


def test_a_file_of_a_format_that_browsers_do_not_show_is_served_as_jpeg(root: Path, model: ColorModel) -> None:
    Image.new("RGB", (40, 20), BLUE).save(root / "blue.tiff")
    answer = TestClient(app_of(index_of(root, ["blue.tiff"], model), model)).get("/api/images/0/file")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (40, 20)


@pytest.mark.parametrize("what", ["file", "thumbnail", "search?x1=0&y1=0&x2=5&y2=5"])
def test_a_file_that_is_gone_or_leads_elsewhere_is_not_found(client: TestClient, root: Path, what: str) -> None:
    (root / "red.png").unlink()
    sentence = refused(client.get(f"/api/images/0/{what}"), 404)
    assert "red.png" in sentence
    assert str(root) not in sentence

    Image.new("RGB", (8, 8)).save(root.parent / "secret.png")
    (root / "red.png").symlink_to(root.parent / "secret.png")
    refused(client.get(f"/api/images/0/{what}"), 404)


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/server.py", "/..%2fserver.py", "/api/images/..%2f"])
def test_the_page_serves_nothing_beside_itself(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_thumbnail_is_sent_again_only_when_its_file_changed(client: TestClient, root: Path) -> None:
    first = client.get("/api/images/0/thumbnail")
    known = {"If-None-Match": first.headers["etag"]}
    again = client.get("/api/images/0/thumbnail", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/api/images/0/thumbnail?size=64", headers=known).status_code == 200

    Image.new("RGB", (40, 20), GREEN).save(root / "red.png")
    os.utime(root / "red.png", (1, 1))
    changed = client.get("/api/images/0/thumbnail", headers=known)
    assert changed.status_code == 200
    assert changed.content != first.content


@pytest.mark.parametrize("size", [31, 1025])
def test_a_thumbnail_of_an_odd_size_is_refused(client: TestClient, size: int) -> None:
    assert refused(client.get("/api/images/0/thumbnail", params={"size": size}), 422).startswith("size: ")
