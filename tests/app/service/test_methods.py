"""Methods, conditional requests, and the role of each route."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from PIL import Image
from starlette.routing import Mount, Route

from glam.app.service.app import create_app
from glam.app.service.middleware.auth import Access
from glam.app.service.middleware.roles import ROLES, Role, role_of
from glam.index import Index

from .colors import ColorModel, app_of, encoded, refused

PAGES = ("/", "/page.js", "/docs", "/docs.html", "/icon.svg")
FACTS = ("/api/info", "/api/filters", "/api/images/0", "/openapi.json")
FILES = ("/api/images/0/file", "/api/images/0/thumbnail", "/api/images/0/thumbnail?size=64")
PROBES = ("/healthz", "/readyz", "/metrics")


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of each route but the page."""
    for route in app.routes:
        if isinstance(route, Mount):
            assert route.path == ""
        elif hasattr(route, "original_router"):  # how recent versions of FastAPI include a router
            yield from routes_of(route.original_router)
        else:
            assert isinstance(route, APIRoute | Route), route
            for method in (route.methods or set()) - {"HEAD"}:
                yield method, route.path


def test_every_route_has_a_role_and_every_role_a_route(client: TestClient) -> None:
    assert set(routes_of(client.app)) == set(ROLES)


def test_a_route_that_the_table_lacks_is_noticed(index: Index, model: ColorModel) -> None:
    app = app_of(index, model)
    app.add_api_route("/api/secret", lambda: "secret")
    assert set(routes_of(app)) - set(ROLES) == {("GET", "/api/secret")}


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/", Role.OPEN),
        ("HEAD", "/api/images/1", Role.READ),
        ("OPTIONS", "/api/images/1", Role.READ),
        ("DELETE", "/api/images/1", Role.WRITE),
        ("POST", "/api/images", Role.WRITE),
        ("GET", "/api", Role.READ),
        ("GET", "/api/unknown", Role.READ),
        ("PUT", "/api/unknown", Role.WRITE),
        ("POST", "/api/info", Role.OPEN),  # 405
        ("PUT", "/page.js", Role.OPEN),  # 405
    ],
)
def test_what_the_table_lacks_needs_the_strictest_role_that_fits(method: str, path: str, role: Role) -> None:
    assert role_of(method, path) is role


def test_the_role_of_a_route_is_asked_of_a_client(index: Index, model: ColorModel) -> None:
    access = Access(read_token="read", write_token="write")
    expected = {Role.OPEN: {None, "read", "write"}, Role.READ: {"read", "write"}, Role.WRITE: {"write"}}
    with TestClient(app_of(index, model, access=access)) as client:
        for (method, route), role in ROLES.items():
            path = route.replace("{image_id}", "99")
            for token in (None, "read", "write"):
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                status = client.request(method, path, headers=headers).status_code
                assert (status not in (401, 403)) == (token in expected[role]), (method, route, token)


@pytest.mark.parametrize("path", [*PAGES, *FACTS, *FILES, *PROBES, "/unknown", "/api/unknown", "/api/images/99"])
def test_head_is_answered_as_get_without_the_body(client: TestClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    volatile = {"x-request-id", "content-length"} if path == "/metrics" else {"x-request-id"}
    for name in set(get.headers) | set(head.headers):
        assert name in volatile or head.headers.get(name) == get.headers.get(name), name


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/api/info", "GET, HEAD, OPTIONS"),
        ("/api/search", "POST, OPTIONS"),
        ("/api/images", "POST, OPTIONS"),
        ("/api/images/0", "GET, DELETE, HEAD, OPTIONS"),
    ],
)
def test_options_and_other_methods_are_told_the_methods_of_a_path(client: TestClient, path: str, methods: str) -> None:
    options = client.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, methods, b"")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"):
        if method not in methods.split(", "):
            answer = client.request(method, path)
            assert method in refused(answer, 405)
            assert answer.headers["allow"] == methods


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_an_unknown_path_of_the_api_is_404_whatever_the_method(client: TestClient, method: str) -> None:
    assert client.request(method, "/api/unknown").status_code == 404
    assert client.request(method, "/api/images/0/unknown").status_code == 404


def test_a_slash_at_the_end_changes_nothing(client: TestClient) -> None:
    assert client.get("/api/info/").json() == client.get("/api/info").json()
    assert client.get("/api/images/0/thumbnail/").status_code == 200
    image = {"image": ("q.png", encoded(Image.new("RGB", (40, 20), "red")))}
    assert client.post("/api/search/", files=image).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, *FACTS, *FILES])
def test_every_cacheable_answer_has_an_etag_and_is_304_if_unchanged(client: TestClient, path: str) -> None:
    first = client.get(path)
    etag = first.headers["etag"]
    assert re.fullmatch(r'(W/)?"[^"]+"', etag)
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        for method in ("GET", "HEAD"):
            again = client.request(method, path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
            assert again.headers["cache-control"] == first.headers["cache-control"]
            assert "content-type" not in again.headers
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_an_etag_changes_with_what_it_is_of(client: TestClient, index: Index) -> None:
    etags = {path: client.get(path).headers["etag"] for path in ("/api/images/0/file", "/api/images/0/thumbnail")}
    Image.new("RGB", (41, 20), "white").save(index.root / "red.png")
    for path, etag in etags.items():
        assert client.get(path, headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("path", [*PROBES, "/api/images/0/search"])
def test_what_differs_each_time_is_not_cached(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_an_error_is_never_304(client: TestClient) -> None:
    assert client.get("/api/images/99", headers={"If-None-Match": "*"}).status_code == 404


@pytest.mark.parametrize("prefix", ["", "/photos"])
def test_below_a_root_path_roles_and_routes_are_the_same(index: Index, model: ColorModel, prefix: str) -> None:
    """A proxy may pass the path with its prefix or without."""
    app = create_app(index, model, access=Access(read_token="read"), root_path="/photos")  # type: ignore[arg-type]
    with TestClient(app) as client:
        assert client.get(f"{prefix}/api/images/0").status_code == 401
        assert client.get(f"{prefix}/api/images/0/").status_code == 401
        assert client.get(f"{prefix}/metrics").status_code == 401
        assert client.delete(f"{prefix}/api/images/0").status_code == 403
        assert client.get(f"{prefix}/api/info").json()["images"] == 4
        assert client.get(f"{prefix}/healthz").status_code == 200
        assert client.get(f"{prefix}/page.js").status_code == 200
        assert "GLAM" in client.get(f"{prefix}/").text
        allowed = {"Authorization": "Bearer read"}
        assert client.get(f"{prefix}/api/images/0", headers=allowed).status_code == 200
        assert client.post(f"{prefix}/api/info").status_code == 405
        page = client.get(f"{prefix}/a/nothing", headers={"Accept": "text/html"})
        assert 'href="../"' in page.text
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/photos"}]


@pytest.mark.parametrize("path", ["/__init__.py", "/__pycache__/x.pyc", "/../app.py"])
def test_the_page_has_no_python_files(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("image_id", ["+1", "1_0", "1.0", "%201", "1%0a", "1e0", "0x1", "%D9%A1"])
def test_only_digits_are_a_number_of_an_image(client: TestClient, image_id: str) -> None:
    assert client.get(f"/api/images/{image_id}").status_code in (404, 422)


def test_a_part_without_a_file_name_is_explained(client: TestClient) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n--b--\r\n'
    answer = client.post("/api/search", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert refused(answer, 422) == "image: Send a file: the part of the form needs a file name."


def test_a_full_temporary_folder_is_no_fault_of_the_client(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tempfile

    def full(*arguments: object, **options: object) -> object:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = client.post("/api/search", files={"image": ("q", bytes(2_000_000))})
    assert str(tmp_path) not in refused(answer, 503)
