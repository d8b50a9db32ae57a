"""Searching through the API: with an upload or an indexed image, by a box, page by page, with filters."""

from typing import cast

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from glam.app.service.settings import ServiceLimits
from glam.images import Box
from glam.index import Index

from .colors import (
    BLUE,
    EXIF_ORIENTATION,
    GREEN,
    RED,
    TURNED_RIGHT,
    ColorModel,
    app_of,
    encoded,
    found,
    halves,
    refused,
    upload,
)


def test_an_upload_finds_its_like_first_with_ranks_and_falling_scores(client: TestClient) -> None:
    answer = upload(client, encoded(Image.new("RGB", (30, 50), GREEN)))
    assert found(answer)[0] == "green"
    results = answer.json()["results"]
    assert [result["rank"] for result in results] == [1, 2, 3, 4]
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert answer.json()["query"] == {"image": None, "width": 30, "height": 50, "box": None}


def test_top_bounds_the_results(client: TestClient) -> None:
    data = encoded(halves(RED, BLUE))
    assert len(found(upload(client, data, top=2))) == 2
    for top in (0, 201, "many"):
        assert refused(upload(client, data, top=top), 422).startswith("top: ")


@pytest.mark.parametrize(("box", "best"), [((0, 0, 20, 20), "red"), ((20, 0, 40, 20), "blue"), (None, "both")])
def test_a_box_searches_with_that_part_only(client: TestClient, box: Box | None, best: str) -> None:
    fields = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) if box else {}
    answer = upload(client, encoded(halves(RED, BLUE)), **fields)
    assert found(answer)[0] == best
    assert answer.json()["query"]["box"] == (list(box) if box else None)


def test_a_box_counts_pixels_of_the_upright_image(client: TestClient) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_RIGHT
    data = encoded(halves(RED, BLUE), "JPEG", exif=exif.tobytes(), quality=95)  # upright: 20 wide, 40 high, red above
    answer = upload(client, data, x1=0, y1=20, x2=20, y2=40)
    assert found(answer)[0] == "blue"
    assert (answer.json()["query"]["width"], answer.json()["query"]["height"]) == (20, 40)
    refused(upload(client, data, x1=0, y1=0, x2=40, y2=20), 422)  # within the stored image, outside the upright one


@pytest.mark.parametrize(
    "box",
    [
        {"x1": 0, "y1": 0, "x2": 41, "y2": 20},
        {"x1": -1, "y1": 0, "x2": 10, "y2": 10},
        {"x1": 10, "y1": 0, "x2": 10, "y2": 20},
        {"x1": 20, "y1": 0, "x2": 10, "y2": 20},
        {"x1": 0, "y1": 0, "x2": 10},
        {"x1": "nan", "y1": 0, "x2": 10, "y2": 10},
        {"x1": 0, "y1": 0, "x2": "inf", "y2": 10},
    ],
)
def test_a_box_that_is_empty_outside_or_incomplete_is_refused(client: TestClient, box: dict[str, object]) -> None:
    refused(upload(client, encoded(halves(RED, BLUE)), **box), 422)
    refused(client.get("/api/images/0/search", params=cast(dict[str, str], box)), 422)


@pytest.mark.parametrize(
    ("data", "status"), [(b"just some text", 415), (b"\xff\xd8\xff\xe0 cut short", 422), (b"", 422)]
)
def test_what_is_no_readable_image_is_refused(client: TestClient, model: ColorModel, data: bytes, status: int) -> None:
    refused(upload(client, data), status)
    assert model.calls == 0


def test_an_image_of_too_many_pixels_is_refused(index: Index, model: ColorModel) -> None:
    client = TestClient(app_of(index, model, ServiceLimits(upload_pixels=799)))
    assert "too large" in refused(upload(client, encoded(halves(RED, BLUE))), 413)


def test_a_body_longer_than_any_upload_is_refused(index: Index, model: ColorModel) -> None:
    client = TestClient(app_of(index, model, ServiceLimits(upload_bytes=1000)))
    assert "0.001 MB" in refused(upload(client, bytes(100_000)), 413)


def test_a_request_without_an_image_is_refused(client: TestClient) -> None:
    assert refused(client.post("/api/search", data={"top": "5"}), 422).startswith("image: ")


def test_an_upload_may_have_as_many_bytes_as_the_limit_and_no_more(index: Index, model: ColorModel) -> None:
    data = encoded(halves(RED, BLUE))
    exact = TestClient(app_of(index, model, ServiceLimits(upload_bytes=len(data))))
    found(upload(exact, data))
    refused(upload(TestClient(app_of(index, model, ServiceLimits(upload_bytes=len(data) - 1))), data), 413)


def test_an_indexed_image_finds_its_like_but_not_itself_and_needs_no_model(
    client: TestClient, model: ColorModel
) -> None:
    answer = client.get("/api/images/0/search", params={"top": 3})
    assert found(answer)[0] == "both"
    assert "red" not in found(answer)
    assert len(found(answer)) == 3
    assert answer.json()["results"][0]["rank"] == 1
    assert answer.json()["query"]["image"]["path"] == "red.png"
    assert model.calls == 0


def test_a_box_on_an_indexed_image_describes_its_crop(client: TestClient, model: ColorModel) -> None:
    answer = client.get("/api/images/3/search", params={"x1": 45, "y1": 5, "x2": 75, "y2": 35})
    assert found(answer)[0] == "blue"
    assert model.calls == 1


def test_skip_and_more_page_through_all_results(client: TestClient) -> None:
    data = encoded(halves(RED, BLUE))
    every = upload(client, data, top=10).json()
    assert (len(every["results"]), every["more"]) == (4, False)
    seen = []
    for skip in range(4):
        page = upload(client, data, top=1, skip=skip).json()
        assert page["more"] == (skip < 3)
        seen += page["results"]
    assert seen == every["results"]
    beyond = upload(client, data, skip=4).json()
    assert (beyond["results"], beyond["more"]) == ([], False)


def test_an_indexed_query_pages_without_itself(client: TestClient) -> None:
    pages = [client.get(f"/api/images/0/search?top=1&skip={skip}").json() for skip in range(3)]
    assert [page["results"][0]["rank"] for page in pages] == [1, 2, 3]
    assert [page["more"] for page in pages] == [True, True, False]
    assert 0 not in [page["results"][0]["image"]["image_id"] for page in pages]


def test_a_filter_and_a_threshold_bound_the_results(client: TestClient) -> None:
    data = encoded(Image.new("RGB", (8, 8), RED))
    assert set(found(upload(client, data, where="number >= 2"))) == {"blue", "both"}
    scores = [result["score"] for result in upload(client, data, threshold=0.5).json()["results"]]
    assert scores
    assert min(scores) >= 0.5
    assert found(client.get("/api/images/0/search", params={"where": "landmark = 'blue'"})) == ["blue"]


@pytest.mark.parametrize("where", ["nope = 1", "landmark = ", "1) or (1", "select 1", "'", "\0"])
def test_a_filter_that_cannot_be_understood_is_refused(client: TestClient, where: str) -> None:
    refused(upload(client, encoded(halves(RED, BLUE)), where=where), 422)
    refused(client.get("/api/images/0/search", params={"where": where}), 422)


def test_the_filters_list_columns_with_values_and_counts(client: TestClient) -> None:
    columns = {column["name"]: column for column in client.get("/api/filters").json()["columns"]}
    assert set(columns) == {"landmark", "width", "height", "bytes", "modified", "number", "kind"}
    assert columns["kind"]["values"] == [{"value": "test", "count": 4}]
    assert columns["kind"]["least"] is None
    assert [columns["width"][part] for part in ("kind", "least", "most")] == ["number", 40, 80]
    assert columns["width"]["values"][0] == {"value": "40", "count": 3}
