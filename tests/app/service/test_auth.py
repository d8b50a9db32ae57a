"""Who may ask what: tokens, hosts and origins. The app behind the guard answers everything with 200."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from glam.app.cli.tokens import COOKIE_VALUE
from glam.app.service.middleware.auth import Access, AuthMiddleware, host_name, is_loopback

READ, WRITE = "read-token", "write-token"
ALL = ["GET", "POST", "DELETE", "PUT", "PATCH"]


def client_of(access: Access, base_url: str = "http://localhost:8000") -> TestClient:
    async def yes(request: Request) -> PlainTextResponse:
        return PlainTextResponse("yes")

    app = Starlette(routes=[Route("/{path:path}", yes, methods=ALL)])
    app.add_middleware(AuthMiddleware, access=access)
    return TestClient(app, base_url=base_url)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


READS = [("GET", "/api/images/1"), ("POST", "/api/search"), ("POST", "/api/matches"), ("GET", "/metrics")]
WRITES = [("POST", "/api/images"), ("POST", "/api/images/"), ("DELETE", "/api/images/1"), ("PUT", "/api/x")]
OPEN = [("GET", "/"), ("GET", "/api/info"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json")]


@pytest.mark.parametrize(("method", "path"), READS)
def test_reading_wants_its_token_where_there_is_one(method: str, path: str) -> None:
    client = client_of(Access(read_token=READ, write_token=WRITE))
    for headers in ({}, bearer("other"), bearer(""), bearer(READ[:-1]), bearer(READ + "x"), {"Authorization": READ}):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["detail"].endswith(".")
    for headers in (bearer(READ), bearer(WRITE), {"Cookie": f"glam_token={READ}"}, {"authorization": f"bearer {READ}"}):
        assert client.request(method, path, headers=headers).status_code == 200
    assert client_of(Access()).request(method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_the_page_and_what_says_how_the_service_is_want_no_token(method: str, path: str) -> None:
    assert client_of(Access(read_token=READ, write_token=WRITE)).request(method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_writing_wants_the_write_token_and_takes_no_cookie(method: str, path: str) -> None:
    client = client_of(Access(read_token=READ, write_token=WRITE))
    for headers in ({}, bearer(READ), {"Cookie": f"glam_token={WRITE}"}):
        assert client.request(method, path, headers=headers).status_code == 401
    assert client.request(method, path, headers=bearer(WRITE)).status_code == 200


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_nothing_can_be_written_where_nothing_was_said_of_it(method: str, path: str) -> None:
    assert client_of(Access()).request(method, path).status_code == 403
    assert client_of(Access(read_token=READ)).request(method, path, headers=bearer(READ)).status_code == 403
    assert client_of(Access(allow_writes=True)).request(method, path).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:9", "[::1]:8000", "127.8.8.8", "LOCALHOST."]
)
def test_on_a_loopback_address_the_names_of_this_machine_pass(host: str) -> None:
    client = client_of(Access(loopback_only=True))
    assert client.get("/api/images/1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", ""]
)
def test_on_a_loopback_address_another_name_is_refused(host: str) -> None:
    assert client_of(Access(loopback_only=True)).get("/", headers={"Host": host}).status_code == 400
    assert client_of(Access()).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/api/search", "/api/images"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_post(path: str, headers: dict[str, str]) -> None:
    client = client_of(Access(allow_writes=True))
    assert client.post(path, headers=headers).status_code == 403
    assert client.post(path, headers={"Origin": "http://localhost:8000"}).status_code == 200
    assert client.post(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


CROSS_SITE = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("path", ["/api/images/1/search", "/api/images/1/file", "/api/info", "/api/info/", "/metrics"])
def test_a_page_of_another_site_cannot_read(path: str, headers: dict[str, str]) -> None:
    """Not even without seeing the answer: an image tag is enough to start a search."""
    client = client_of(Access(read_token=READ))
    allowed = {**bearer(READ), "Sec-Fetch-Site": "none"}
    for method in ("GET", "HEAD", "OPTIONS"):
        assert client.request(method, path, headers={**bearer(READ), **headers}).status_code == 403
        assert client.request(method, path, headers=allowed).status_code != 403
    assert client.get("/", headers=headers).status_code == 200  # a link to the page is fine


def test_an_allowed_site_may_use_the_api() -> None:
    client = client_of(Access(allowed_origins=("https://friend.example",)))
    sent = {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}
    for method, path in READS:
        assert client.request(method, path, headers=sent).status_code == 200
        for other in ("https://evil.example", "http://friend.example", "https://friend.example.evil.example"):
            assert client.request(method, path, headers={**sent, "Origin": other}).status_code == 403


@pytest.mark.parametrize("host", ["photos.example.org", "photos.example.org:8443", "PHOTOS.example.org", "127.0.0.1:8"])
def test_behind_a_proxy_its_public_name_is_a_name_of_the_service(host: str) -> None:
    client = client_of(Access(loopback_only=True, public_hosts=("photos.example.org",)))
    for origin in ("https://photos.example.org", "https://photos.example.org:8443"):
        headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/api/search", headers=headers).status_code == 200
    assert client.post("/api/search", headers={"Host": host, "Origin": "https://evil.example"}).status_code == 403
    assert client.get("/api/info", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:80@evil.example", "localhost/evil", "localhost evil", "[::1", "a:b:c"])
def test_a_malformed_host_is_no_loopback_name(host: str) -> None:
    assert client_of(Access(loopback_only=True)).get("/api/info", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(("header", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:80", "::1"), ("::1", "::1"), ("", "")])
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


def test_what_is_this_machine() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "::1", "localhost", "a.localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example", ""]))


@pytest.mark.parametrize(
    ("token", "fits"), [("a-b_c.d~e", True), ("semi;colon", False), ("two words", False), ("", False)]
)
def test_a_token_has_to_fit_into_a_cookie(token: str, fits: bool) -> None:
    assert bool(COOKIE_VALUE.fullmatch(token)) == fits
