"""The service as a whole: what it says of itself, its page, an index that changes."""

from pathlib import Path
from typing import cast

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from glam.app.service.app import PAGE
from glam.errors import GlamError
from glam.index import Index, add
from glam.model import Model

from .colors import ColorModel, app_of, index_of, wait_until


def test_info_and_health(client: TestClient) -> None:
    info = client.get("/api/info").json()
    limits = {"bytes": 20_000_000, "pixels": 50_000_000}
    allowed = {"writable": False, "needs_token": False, "explains": True}
    assert info == {"images": 4, "model": "color", "dimension": 3, "limits": limits, **allowed}
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_a_changed_index_is_served_without_a_restart(client: TestClient, index: Index, model: ColorModel) -> None:
    old = client.app.state.glam.live_index.served  # type: ignore[attr-defined]
    Image.new("RGB", (40, 20), (20, 220, 220)).save(index.root / "cyan.png")
    with client.app.state.glam.live_index.use() as held:  # type: ignore[attr-defined]
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


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("path", "home"), [("/nothing", "./"), ("/a/b/nothing", "../../"), ("/api/images/99", "../../")]
)
def test_a_browser_gets_a_page_for_a_404_that_links_home(client: TestClient, path: str, home: str) -> None:
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert f'href="{home}"' in answer.text
    assert f'href="{home}style.css"' in answer.text
    assert client.get(f"{path.rsplit('/', 1)[0]}/{home}style.css").status_code == 200


def test_the_page_of_a_404_names_the_missing_file_and_escapes_it(root: Path, model: ColorModel) -> None:
    Image.new("RGB", (40, 20)).save(root / "<b>.png")
    with index_of(root, ["<b>.png"], model) as index, TestClient(app_of(index, model)) as client:
        (root / "<b>.png").unlink()
        text = client.get("/api/images/0/file", headers=BROWSER).text
    assert "(&lt;b&gt;.png)" in text
    assert "<b>" not in text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/avif,image/*,*/*;q=0.8"])
def test_other_clients_get_a_404_in_json(client: TestClient, accept: str) -> None:
    assert client.get("/nothing", headers={"Accept": accept}).json() == {"detail": "Not Found"}
    assert "99" in client.get("/api/images/99", headers={"Accept": accept}).json()["detail"]


def test_the_documentation_describes_every_endpoint_and_parameter(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    for path, methods in api["paths"].items():
        for endpoint in methods.values():
            assert endpoint["summary"], path
            assert endpoint["description"], path
            assert all(parameter["description"] for parameter in endpoint.get("parameters", []))
    assert "HTTPValidationError" not in api["components"]["schemas"]  # errors are all of one form


def test_a_model_that_the_index_was_not_built_with_is_refused(index: Index, model: ColorModel) -> None:
    model.fingerprint = "other"
    with pytest.raises(GlamError):
        app_of(index, model)
