"""The query service, on a small made-up index: images of plain colours, described by their mean colour."""

import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor, nn

from glam.app.access import Access
from glam.app.limits import Limits
from glam.app.server import PAGE, create_app
from glam.datasets.collection import Collection, Photo
from glam.describe import Settings
from glam.errors import GlamError
from glam.images import Box
from glam.index import Index, add, build
from glam.model import Model

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)
EXIF_ORIENTATION = 0x0112
TURNED_RIGHT = 6  # the camera was held upright; the stored rows run down the upright image


class ColourNetwork(nn.Module):
    """In the place of a `DescriptorNetwork`: the descriptor is the mean colour."""

    dim, architecture = 3, SimpleNamespace(whitening=None)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.backbone.multiple, self.backbone.mean, self.backbone.std = 1, (0.0,) * 3, (1.0,) * 3
        self.batches: list[int] = []
        self.running = self.most_running = 0
        self.may_finish = threading.Event()
        self.may_finish.set()

    def layout(self, device: torch.device) -> torch.memory_format:
        return torch.contiguous_format

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        assert self.may_finish.wait(10)
        self.running -= 1
        return F.normalize(images.mean(dim=(2, 3)) + 1e-3)

    def whitened(self, descriptors: Tensor) -> Tensor:
        return descriptors


class ColourModel(Model):
    """In the place of a `Model`."""

    def __init__(self) -> None:
        self.name, self.dim, self.size, self.scales = "colour", 3, 64, (1.0,)
        self.network = self.fast = ColourNetwork()
        self.fingerprint = "c0"

    @property
    def calls(self) -> int:
        return len(self.network.batches)


def index_of(root: Path, paths: Sequence[str], model: ColourModel) -> Index:
    """An index of files, with their names as labels; ids are their places in the list."""
    path = root.parent / f"{len(list(root.parent.iterdir()))}.glam"
    photos = tuple(Photo(name, Path(name).stem, metadata={"place": i, "kind": "test"}) for i, name in enumerate(paths))
    build(path, Collection(root, photos), cast(Model, model), settings=Settings(64, batch_size=1, workers=1))
    model.network.batches.clear()
    return Index.open(path)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def halves(left: tuple[int, int, int], right: tuple[int, int, int], size: tuple[int, int] = (40, 20)) -> Image.Image:
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, colour in {"red": RED, "green": GREEN, "blue": BLUE}.items():
        Image.new("RGB", (40, 20), colour).save(folder / f"{name}.png")
    halves(RED, BLUE, (80, 40)).save(folder / "both.jpg", quality=95)
    return folder


@pytest.fixture
def model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def index(root: Path, model: ColourModel) -> Iterator[Index]:
    with index_of(root, ["red.png", "green.png", "blue.png", "both.jpg"], model) as index:
        yield index


def app_of(
    index: Index,
    model: ColourModel,
    limits: Limits = Limits(),  # noqa: B008
    access: Access = Access(),  # noqa: B008
) -> FastAPI:
    return create_app(index, cast(Model, model), limits, access)


@pytest.fixture
def client(index: Index, model: ColourModel) -> Iterator[TestClient]:
    with TestClient(app_of(index, model)) as client:
        yield client


def upload(client: TestClient, data: bytes, **fields: object) -> Any:
    return client.post("/api/search", files={"image": ("query.jpg", data)}, data=fields)


def found(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["image"]["label"] for result in answer.json()["results"]]


def refused(answer: Any, status: int) -> str:
    """The sentence of a refusal, after checking that there is one."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    sentence = answer.json()["detail"]
    assert isinstance(sentence, str)
    assert sentence.endswith(".")
    return sentence


# Searching with an upload


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


# Uploads that are refused


@pytest.mark.parametrize(
    ("data", "status"), [(b"just some text", 415), (b"\xff\xd8\xff\xe0 cut short", 422), (b"", 422)]
)
def test_what_is_no_readable_image_is_refused(client: TestClient, model: ColourModel, data: bytes, status: int) -> None:
    refused(upload(client, data), status)
    assert model.calls == 0


def test_an_image_of_too_many_pixels_is_refused(index: Index, model: ColourModel) -> None:
    client = TestClient(app_of(index, model, Limits(upload_pixels=799)))
    assert "40 by 20" in refused(upload(client, encoded(halves(RED, BLUE))), 413)


def test_a_body_longer_than_any_upload_is_refused(index: Index, model: ColourModel) -> None:
    client = TestClient(app_of(index, model, Limits(upload_bytes=1000)))
    assert "0.001 MB" in refused(upload(client, bytes(100_000)), 413)


def test_a_request_without_an_image_is_refused(client: TestClient) -> None:
    assert refused(client.post("/api/search", data={"top": "5"}), 422).startswith("image: ")


def test_an_upload_may_have_as_many_bytes_as_the_limit_and_no_more(index: Index, model: ColourModel) -> None:
    data = encoded(halves(RED, BLUE))
    exact = TestClient(app_of(index, model, Limits(upload_bytes=len(data))))
    found(upload(exact, data))
    refused(upload(TestClient(app_of(index, model, Limits(upload_bytes=len(data) - 1))), data), 413)


# Searching with an indexed image


def test_an_indexed_image_finds_its_like_but_not_itself_and_needs_no_model(
    client: TestClient, model: ColourModel
) -> None:
    answer = client.get("/api/images/0/search", params={"top": 3})
    assert found(answer)[0] == "both"
    assert "red" not in found(answer)
    assert len(found(answer)) == 3
    assert answer.json()["results"][0]["rank"] == 1
    assert answer.json()["query"]["image"]["path"] == "red.png"
    assert model.calls == 0


def test_a_box_on_an_indexed_image_describes_its_crop(client: TestClient, model: ColourModel) -> None:
    answer = client.get("/api/images/3/search", params={"x1": 45, "y1": 5, "x2": 75, "y2": 35})
    assert found(answer)[0] == "blue"
    assert model.calls == 1


@pytest.mark.parametrize("id", ["4", "-1", str(2**70)])
@pytest.mark.parametrize("what", ["", "/search", "/file", "/thumbnail"])
def test_an_unknown_image_is_not_found(client: TestClient, id: str, what: str) -> None:
    assert id in refused(client.get(f"/api/images/{id}{what}"), 404)


# Files and thumbnails


def test_an_entry_tells_path_label_and_size(client: TestClient) -> None:
    known = {"kind": "test", "place": 3}
    expected = {"id": 3, "path": "both.jpg", "label": "both", "width": 80, "height": 40, "metadata": known}
    assert client.get("/api/images/3").json() == expected


def test_a_file_is_served_as_it_is(client: TestClient, root: Path) -> None:
    answer = client.get("/api/images/0/file")
    assert answer.content == (root / "red.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("inline")


def test_a_file_of_a_format_that_browsers_do_not_show_is_served_as_jpeg(root: Path, model: ColourModel) -> None:
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


# The service as a whole


def test_info_and_health(client: TestClient) -> None:
    info = client.get("/api/info").json()
    limits = {"bytes": 20_000_000, "pixels": 50_000_000}
    allowed = {"writable": False, "needs_token": False, "explains": True}
    assert info == {"images": 4, "model": "colour", "dimension": 3, "limits": limits, **allowed}
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_uploads_of_one_moment_go_through_the_network_together_and_other_requests_go_on(
    client: TestClient, model: ColourModel
) -> None:
    network = model.network
    network.may_finish.clear()
    answers: list[list[str]] = []

    def search(colour: tuple[int, int, int]) -> None:
        answers.append(found(upload(client, encoded(Image.new("RGB", (40, 20), colour)))))

    uploads = [threading.Thread(target=search, args=((i, 220, i),)) for i in range(6)]
    uploads[0].start()
    wait_until(lambda: network.running == 1)
    for thread in uploads[1:]:
        thread.start()
    try:
        waiting = client.app.state.shared.describer._network  # type: ignore[attr-defined]
        wait_until(lambda: len(waiting) == 5)
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/images/0/thumbnail").status_code == 200
        assert client.get("/api/images/0/search").status_code == 200
    finally:
        network.may_finish.set()
    for thread in uploads:
        thread.join()
    assert [answer[0] for answer in answers] == ["green"] * 6
    assert (network.batches, network.most_running) == ([1, 5], 1)


def wait_until(holds: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def test_a_batch_of_one_takes_each_upload_by_itself(index: Index, model: ColourModel) -> None:
    with TestClient(app_of(index, model, Limits(batch=1, window_seconds=0.05))) as client:
        data = [encoded(Image.new("RGB", (40, 20), (i, 0, 0))) for i in range(4)]
        uploads = [threading.Thread(target=upload, args=(client, image)) for image in data]
        for thread in uploads:
            thread.start()
        for thread in uploads:
            thread.join()
    assert model.network.batches == [1, 1, 1, 1]


def test_a_full_queue_is_answered_with_503_and_when_to_come_back(index: Index, model: ColourModel) -> None:
    with TestClient(app_of(index, model, Limits(uploads=2))) as client:
        model.network.may_finish.clear()
        data = [encoded(Image.new("RGB", (40, 20), (i, 0, 0))) for i in range(3)]
        running = [threading.Thread(target=upload, args=(client, image)) for image in data[:2]]
        for thread in running:
            thread.start()
        try:
            wait_until(lambda: client.app.state.shared.running.count == 2)  # type: ignore[attr-defined]
            time.sleep(0.1)
            answer = upload(client, data[2])
            refused(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        finally:
            model.network.may_finish.set()
        for thread in running:
            thread.join()
        found(upload(client, data[2]))


def test_a_request_that_takes_too_long_is_given_up_with_503(index: Index, model: ColourModel) -> None:
    with TestClient(app_of(index, model, Limits(request_seconds=0.2))) as client:
        model.network.may_finish.clear()
        try:
            answer = upload(client, encoded(halves(RED, BLUE)))
            assert "0.2 seconds" in refused(answer, 503)
            assert answer.headers["retry-after"]
        finally:
            model.network.may_finish.set()
        found(upload(client, encoded(halves(RED, BLUE))))


def test_an_upload_that_was_described_before_needs_no_model(client: TestClient, model: ColourModel) -> None:
    data = encoded(halves(RED, BLUE))
    first = found(upload(client, data))
    assert found(upload(client, data, skip=1)) == first[1:]
    assert found(upload(client, data, where="label != 'red'")) == [label for label in first if label != "red"]
    assert model.calls == 1
    found(upload(client, data, x1=0, y1=0, x2=20, y2=20))
    assert model.calls == 2


# Which results


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
    assert 0 not in [page["results"][0]["image"]["id"] for page in pages]


def test_a_condition_and_a_threshold_bound_the_results(client: TestClient) -> None:
    data = encoded(Image.new("RGB", (8, 8), RED))
    assert set(found(upload(client, data, where="place >= 2"))) == {"blue", "both"}
    scores = [result["score"] for result in upload(client, data, threshold=0.5).json()["results"]]
    assert scores
    assert min(scores) >= 0.5
    assert found(client.get("/api/images/0/search", params={"where": "label = 'blue'"})) == ["blue"]


@pytest.mark.parametrize("where", ["nope = 1", "label = ", "1) or (1", "select 1", "'", "\0"])
def test_a_condition_that_cannot_be_understood_is_refused(client: TestClient, where: str) -> None:
    refused(upload(client, encoded(halves(RED, BLUE)), where=where), 422)
    refused(client.get("/api/images/0/search", params={"where": where}), 422)


def test_the_filters_list_columns_with_values_and_counts(client: TestClient) -> None:
    columns = {column["name"]: column for column in client.get("/api/filters").json()["columns"]}
    assert set(columns) == {"label", "width", "height", "bytes", "modified", "place", "kind"}
    assert columns["kind"]["values"] == [{"value": "test", "count": 4}]
    assert columns["kind"]["least"] is None
    assert [columns["width"][part] for part in ("kind", "least", "most")] == ["number", 40, 80]
    assert columns["width"]["values"][0] == {"value": "40", "count": 3}


def test_a_changed_index_is_served_without_a_restart(client: TestClient, index: Index, model: ColourModel) -> None:
    old = client.app.state.shared.current.serving  # type: ignore[attr-defined]
    Image.new("RGB", (40, 20), (20, 220, 220)).save(index.root / "cyan.png")
    with client.app.state.shared.current.use() as held:  # type: ignore[attr-defined]
        add(index.path, [index.root / "cyan.png"], lambda: cast(Model, model))
        wait_until(lambda: client.get("/api/info").json()["images"] == 5)
        assert held is old
        assert len(held.index.search(held.index.descriptor(0), 9)[0]) == 4
    assert client.get("/api/images/4").json()["path"] == "cyan.png"


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/info", "/api/images/99", "/api/images/0/file", "/nothing"])
def test_every_answer_keeps_browsers_to_this_origin(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"Origin": "https://elsewhere.example"}).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_the_page_and_its_documentation_name_no_other_origin(client: TestClient) -> None:
    for path in PAGE.iterdir():
        if path.suffix in {".html", ".css", ".js"}:
            # The namespace of SVG is a name, and nothing is fetched from there.
            assert "://" not in path.read_text().replace("http://www.w3.org/2000/svg", ""), path.name
    assert "text/html" in client.get("/").headers["content-type"]
    assert client.get("/docs").text == (PAGE / "docs.html").read_text()


def test_the_documentation_describes_every_endpoint_and_parameter(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    for path, methods in api["paths"].items():
        for endpoint in methods.values():
            assert endpoint["summary"], path
            assert endpoint["description"], path
            assert all(parameter["description"] for parameter in endpoint.get("parameters", []))
    assert "HTTPValidationError" not in api["components"]["schemas"]  # errors are all of one form


def test_a_model_that_the_index_was_not_built_with_is_refused(index: Index, model: ColourModel) -> None:
    model.fingerprint = "other"
    with pytest.raises(GlamError):
        app_of(index, model)
