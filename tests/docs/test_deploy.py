"""The recipes of docs/deploy.md: nginx in front of a service, the systemd unit, the container."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from glam.app.client import form
from glam.app.service.middleware.auth import Access
from glam.app.service.server import make_server
from glam.index import Index
from tests.app.service.colors import ColorModel, app_of, two_color_index, wait_until
from tests.docs.pages import DOCS, blocks

DEPLOY = {block.language: block.text for block in blocks(DOCS / "deploy.md")}
PORT = 8199
"""Of nginx; arbitrary."""

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with two_color_index(tmp_path) as index:
        yield index


def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of a request to nginx, as a browser on another machine sends it."""
    with closing(HTTPConnection("127.0.0.1", PORT, timeout=30)) as connection:
        connection.request(method, path, body, {"Host": "photos.example.org", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
@pytest.mark.parametrize(("root_path", "strips"), [("", False), ("/photos", False), ("/photos", True)])
def test_the_recipe_for_nginx_works(
    index: Index, tmp_path: Path, root_path: str, strips: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "glam.service")
    access = Access(read_token="read", loopback_only=True, public_hosts=("photos.example.org",))
    app = app_of(index, ColorModel(), access=access, root_path=root_path)
    ports: list[int] = []
    server = make_server(app, "127.0.0.1", 0, 5, ports.append, trusted_proxies=[ip_network("127.0.0.1")])
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: ports)
    recipe = re.sub(r"\n *ssl_certificate[^\n]*", "", DEPLOY["nginx"]).replace("443 ssl", f"127.0.0.1:{PORT}")
    recipe = recipe.replace("location /", f"location {root_path}/").replace("127.0.0.1:8000", f"127.0.0.1:{ports[0]}")
    if strips:
        recipe = recipe.replace(f"127.0.0.1:{ports[0]};", f"127.0.0.1:{ports[0]}/;")
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # whose temporary folder it is
    (tmp_path / "nginx.conf").write_text(
        f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
        f" http {{ access_log off; {folders} {recipe} }}"
    )
    assert NGINX
    nginx = subprocess.Popen([NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)], stderr=subprocess.PIPE)
    try:
        wait_for_nginx(nginx, root_path)
        status, page = ask("GET", f"{root_path}/")
        assert status == 200
        assert b"GLAM" in page
        assert ask("HEAD", f"{root_path}/healthz") == (200, b"")
        assert ask("GET", f"{root_path}/api/images/0")[0] == 401
        browser = {"Origin": "https://photos.example.org", "Sec-Fetch-Site": "same-origin", "Cookie": "glam_token=read"}
        body, kind = form({}, (index.root / "red.png").read_bytes())
        status, found = ask("POST", f"{root_path}/api/search", body, **{"Content-Type": kind}, **browser)
        assert status == 200
        assert b'"red"' in found
        foreign = {**browser, "Origin": "https://evil.example"}
        assert ask("POST", f"{root_path}/api/search", body, **{"Content-Type": kind}, **foreign)[0] == 403
        body, kind = form({}, bytes(20_500_000))
        status, sentence = ask("POST", f"{root_path}/api/search", body, **{"Content-Type": kind}, **browser)
        assert (status, b"at most 20 MB" in sentence) == (413, True)
    finally:
        nginx.terminate()
        nginx.wait(10)
        server.handle_exit(15, None)
        thread.join(30)
    facts: list[dict[str, Any]] = [getattr(record, "facts", {}) for record in caplog.records]
    assert any(fact.get("path", "").endswith("/api/search") and fact["status"] == 200 for fact in facts)


def wait_for_nginx(nginx: "subprocess.Popen[bytes]", root_path: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert nginx.poll() is None, nginx.stderr and nginx.stderr.read().decode()
        try:
            ask("GET", f"{root_path}/healthz")
            return
        except (OSError, HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt: systemd)")
def test_the_unit_for_systemd_is_valid(tmp_path: Path) -> None:
    unit = tmp_path / "glam.service"
    unit.write_text(DEPLOY["ini"].replace("/opt/glam/.venv/bin/glam", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "glam.service" not in done.stderr


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_the_container_has_nothing_to_lint(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DEPLOY["dockerfile"])
    done = subprocess.run(["hadolint", str(tmp_path / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_container_runs_the_service_as_a_plain_user_and_is_probed() -> None:
    lines = dict(line.split(" ", 1) for line in DEPLOY["dockerfile"].splitlines())
    assert ":" in lines["FROM"]
    assert not lines["FROM"].endswith("latest")
    assert lines["USER"] not in ("root", "0")
    assert "/healthz" in lines["HEALTHCHECK"]
    assert lines["ENTRYPOINT"].startswith('["glam", "serve"')
