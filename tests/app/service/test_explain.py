"""What the API answers when it is asked why: matches and attention, and a sentence for whatever it cannot answer."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from glam import Model
from glam.app.service.app import create_app
from glam.app.service.routes.explain import MAX_LINES, to_bytes
from glam.app.service.settings import ServiceLimits
from glam.attention_maps import attention_maps
from glam.datasets.readers import read_folder
from glam.index import Index, build
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork

MAPS = ("local_channel", "local_spatial", "global_channel", "global_spatial")
NAMES = ("scene.png", "shifted.png", "blank.png", "turned.jpg")
SIZE = 96
SHIFT = 24


def model_of(glam_options: dict[str, Any] | None) -> Model:
    torch.manual_seed(0)
    attention = None if glam_options is None else {"name": "glam", **glam_options}
    architecture = Architecture("resnet10t", dim=8, attention=attention)
    return Model("/secret/place/small", DescriptorNetwork(architecture).eval(), ModelHeader(architecture, SIZE))


def scene() -> Image.Image:
    """320 x 200, of many small things."""
    generator = np.random.default_rng(3)
    canvas = np.full((200, 320, 3), 128, np.uint8)
    for _ in range(300):
        x, y, w, h = (int(value) for value in generator.integers((0, 0, 4, 4), (320, 200, 30, 30)))
        cv2.rectangle(canvas, (x, y), (x + w, y + h), [int(v) for v in generator.integers(0, 256, 3)], -1)
    return Image.fromarray(cv2.GaussianBlur(canvas, (0, 0), 1.0))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain") / "images"
    folder.mkdir()
    picture = scene()
    picture.save(folder / "scene.png")
    picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, -SHIFT, 0, 1, 0)).save(folder / "shifted.png")
    Image.new("RGB", (320, 200), "white").save(folder / "blank.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    picture.rotate(90, expand=True).save(folder / "turned.jpg", quality=95, exif=exif)
    return folder


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(root: Path, tmp_path: Path) -> Iterator[Serve]:
    opened: list[Any] = []

    def start(model: Model, limits: ServiceLimits = ServiceLimits()) -> TestClient:  # noqa: B008
        path = tmp_path / f"{len(opened)}.glam"
        build(path, read_folder(root), model)
        index = Index.open(path)
        client = TestClient(create_app(index, model, limits), base_url="http://127.0.0.1")
        opened.extend((client.__enter__(), index))
        return client

    yield start
    for client, index in zip(opened[::2], opened[1::2], strict=True):
        client.__exit__(None, None, None)
        index.close()


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve(model_of({"reduction": 6}))


def number(client: TestClient, name: str) -> int:
    """The id of an image of the index."""
    known = {client.get(f"/api/images/{i}").json().get("path"): i for i in range(len(NAMES) + 1)}
    return known[name]


def answered(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: Any, status: int) -> str:
    """The sentence of a refusal, after checking that there is one and that it gives nothing away."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    sentence: str = answer.json()["detail"]
    assert sentence.endswith(".")
    assert "/secret" not in sentence
    return sentence


def ask(client: TestClient, other: object, upload: bytes | None = None, **fields: object) -> Any:
    files = None if upload is None else {"image": ("query.png", upload)}
    return client.post("/api/matches", data={"with": str(other), **fields}, files=files)


# Matches


@pytest.mark.parametrize("way", ["upload", "query"])
def test_matches_are_lines_between_pixels_of_both_images(client: TestClient, root: Path, way: str) -> None:
    other = number(client, "shifted.png")
    if way == "upload":
        found = answered(ask(client, other, (root / "scene.png").read_bytes()))
    else:
        found = answered(ask(client, other, query=number(client, "scene.png")))
    assert set(found) == {"inliers", "tried", "lines"}
    assert found["tried"] >= found["inliers"] > 50
    assert len(found["lines"]) == min(found["inliers"], MAX_LINES)
    lines = np.array(found["lines"])
    assert np.median(lines[:, 2:] - lines[:, :2], axis=0) == pytest.approx([SHIFT, 0], abs=0.2)


def test_a_box_matches_with_that_part_only_in_pixels_of_the_whole_image(client: TestClient) -> None:
    box = {"x1": 100, "y1": 40, "x2": 220, "y2": 160}
    other, query = number(client, "shifted.png"), number(client, "scene.png")
    lines = np.array(answered(ask(client, other, query=query, **box))["lines"])
    assert len(lines) > 10
    assert (lines[:, :2] >= (99, 39)).all()
    assert (lines[:, :2] <= (220, 160)).all()
    assert np.median(lines[:, 2:] - lines[:, :2], axis=0) == pytest.approx([SHIFT, 0], abs=0.3)


def test_an_image_stored_on_its_side_is_matched_upright(client: TestClient) -> None:
    lines = np.array(answered(ask(client, number(client, "turned.jpg"), query=number(client, "scene.png")))["lines"])
    assert len(lines) > 50
    assert np.median(lines[:, 2:] - lines[:, :2], axis=0) == pytest.approx([0, 0], abs=0.5)


def test_nothing_matches_a_blank_image(client: TestClient) -> None:
    nothing = {"inliers": 0, "tried": 0, "lines": []}
    blank, other = number(client, "blank.png"), number(client, "scene.png")
    assert answered(ask(client, blank, query=other)) == answered(ask(client, other, query=blank)) == nothing


def test_matches_that_cannot_be_asked_for_are_refused(client: TestClient, root: Path) -> None:
    scene_id, data = number(client, "scene.png"), (root / "scene.png").read_bytes()
    assert "exactly one of" in refused(ask(client, scene_id), 422)
    assert "exactly one of" in refused(ask(client, scene_id, data, query=scene_id), 422)
    assert refused(client.post("/api/matches", data={"query": str(scene_id)}), 422).startswith("with: ")
    refused(ask(client, "scene", data), 422)
    for unknown in (99, -1, 2**70):
        assert str(unknown) in refused(ask(client, unknown, data), 404)
        assert str(unknown) in refused(ask(client, scene_id, query=unknown), 404)
    refused(ask(client, scene_id, b"no image"), 415)
    refused(ask(client, scene_id, data[: len(data) // 2]), 422)
    refused(ask(client, scene_id, b""), 422)


BAD_BOXES = [
    {"x1": 0, "y1": 0, "x2": 321, "y2": 20},
    {"x1": -1, "y1": 0, "x2": 10, "y2": 10},
    {"x1": 10, "y1": 0, "x2": 10, "y2": 20},
    {"x1": 0, "y1": 0, "x2": 10},
    {"x1": "nan", "y1": 0, "x2": 10, "y2": 10},
    {"x1": 0, "y1": 0, "x2": "inf", "y2": 10},
]


def test_a_box_that_is_empty_outside_or_incomplete_is_refused_everywhere(client: TestClient, root: Path) -> None:
    known, data = number(client, "scene.png"), (root / "scene.png").read_bytes()
    for box in BAD_BOXES:
        refused(ask(client, known, query=known, **box), 422)
        refused(client.get(f"/api/images/{known}/attention", params=box), 422)  # type: ignore[arg-type]
        refused(client.post("/api/attention", files={"image": ("q.png", data)}, data=box), 422)


def test_a_file_that_is_gone_is_not_found(client: TestClient, root: Path) -> None:
    known, other = number(client, "scene.png"), number(client, "shifted.png")
    content = (root / "scene.png").read_bytes()
    (root / "scene.png").unlink()
    try:
        for answer in (
            ask(client, known, query=other),
            ask(client, other, query=known),
            client.get(f"/api/images/{known}/attention"),
        ):
            sentence = refused(answer, 404)
            assert "scene.png" in sentence
            assert str(root) not in sentence
    finally:
        (root / "scene.png").write_bytes(content)


# Attention


def decoded(answer: dict[str, Any], name: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(answer[name]), np.uint8)


def test_attention_is_sent_as_bytes_in_the_order_of_rows(client: TestClient, root: Path) -> None:
    answer = answered(client.get(f"/api/images/{number(client, 'scene.png')}/attention"))
    maps = attention_maps(model_of({"reduction": 6}), root / "scene.png")
    assert (answer["height"], answer["width"]) == (maps.height, maps.width) == (2, 3)
    assert answer["box"] == [0, 0, 320, 200]
    for name in MAPS:
        values = getattr(maps, name)
        rows = values if name == "global_spatial" else values.reshape(1, -1)
        low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
        expected = (rows - low) / (high - low) * 255
        np.testing.assert_allclose(decoded(answer, name).reshape(rows.shape), expected, atol=1.1, err_msg=name)
        assert answer["ranges"][name] == pytest.approx([values.min(), values.max()], rel=1e-3, abs=1e-6)


def test_an_upload_and_the_indexed_image_get_the_same_attention(client: TestClient, root: Path) -> None:
    box = {"x1": 20, "y1": 10, "x2": 220, "y2": 170}
    indexed = client.get(f"/api/images/{number(client, 'scene.png')}/attention", params=box)
    files = {"image": ("query.png", (root / "scene.png").read_bytes())}
    upload = client.post("/api/attention", files=files, data=box)
    assert answered(upload) == answered(indexed)
    assert answered(upload)["box"] == [20, 10, 220, 170]


def test_attention_that_the_model_was_trained_without_is_null(serve: Serve) -> None:
    client = serve(model_of({"reduction": 6, "global_spatial": False}))
    answer = answered(client.get("/api/images/1/attention"))
    assert answer["global_spatial"] is None
    assert "global_spatial" not in answer["ranges"]
    assert answer["local_spatial"] is not None


def test_a_model_without_glam_still_matches_but_has_no_attention(serve: Serve) -> None:
    client = serve(model_of(None))
    assert "no attention" in refused(client.get("/api/images/1/attention"), 422)
    answered(ask(client, 1, query=1))


def test_attention_that_cannot_be_asked_for_is_refused(client: TestClient, root: Path) -> None:
    for unknown in (99, -1, 2**70):
        assert str(unknown) in refused(client.get(f"/api/images/{unknown}/attention"), 404)
    refused(client.get("/api/images/first/attention"), 422)
    refused(client.post("/api/attention", files={"image": ("q.svg", b"<svg/>")}), 415)
    assert refused(client.post("/api/attention"), 422).startswith("image: ")


def test_an_upload_of_too_many_pixels_is_refused_before_it_is_decoded(serve: Serve, root: Path) -> None:
    client = serve(model_of({"reduction": 6}), ServiceLimits(upload_pixels=320 * 200 - 1))
    data = (root / "scene.png").read_bytes()
    refused(client.post("/api/attention", files={"image": ("q.png", data)}), 413)
    refused(ask(client, 1, data), 413)


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (700, 2)])
def test_images_of_odd_shapes_are_answered(client: TestClient, size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    answer = answered(client.post("/api/attention", files={"image": ("q.png", out.getvalue())}))
    assert len(decoded(answer, "global_spatial")) == (answer["height"] * answer["width"]) ** 2
    assert answered(ask(client, number(client, "scene.png"), out.getvalue()))["inliers"] == 0


def test_rows_of_equal_numbers_become_zeros() -> None:
    rows = np.array([[1, 3, 2], [5, 5, 5]], np.float32)
    np.testing.assert_array_equal(to_bytes(rows), [[0, 255, 128], [0, 0, 0]])


def test_the_documentation_describes_every_field(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("MatchesAnswer", "AttentionAnswer"):
        assert all(field["description"] for field in schemas[name]["properties"].values())
