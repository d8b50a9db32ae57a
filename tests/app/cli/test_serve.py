"""`glam serve`: where it takes its tokens from, its log, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from glam.app.cli.serve import _parse_memory, serve
from glam.app.cli.tokens import find_token
from glam.errors import GlamError

ROOT = Path(__file__).resolve().parents[3]

READ = "--read-token"


def test_a_token_comes_from_the_option_its_file_the_variable_or_the_file_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert find_token(READ, None, None) is None
    assert find_token(READ, "from-option", None) == "from-option"
    assert find_token(READ, None, file) == "from-file"
    monkeypatch.setenv("GLAM_READ_TOKEN", "from-variable")
    assert find_token(READ, None, None) == "from-variable"
    assert find_token("--write-token", None, None) is None
    with pytest.raises(GlamError, match="GLAM_READ_TOKEN are both set"):
        find_token(READ, "from-option", None)
    monkeypatch.delenv("GLAM_READ_TOKEN")
    monkeypatch.setenv("GLAM_READ_TOKEN_FILE", str(file))
    assert find_token(READ, None, None) == "from-file"


@pytest.mark.parametrize("value", ["", " ", "\n", "\t \n"])
@pytest.mark.parametrize("option", [READ, "--write-token"])
def test_a_token_that_is_set_but_empty_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    variable = "GLAM" + option.upper().replace("--", "_").replace("-", "_")
    file = tmp_path / "token"
    file.write_text(value)
    with pytest.raises(GlamError, match="is set, but empty"):
        find_token(option, value, None)
    with pytest.raises(GlamError, match="is set, but empty"):
        find_token(option, None, file)
    for name, content in ((variable, value), (f"{variable}_FILE", str(file)), (f"{variable}_FILE", "")):
        monkeypatch.setenv(name, content)
        with pytest.raises(GlamError, match=f"{name} is set, but empty"):
            find_token(option, None, None)
        monkeypatch.delenv(name)


def test_a_token_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", ".", "binary"):
        with pytest.raises(GlamError, match="cannot be read"):
            find_token(READ, None, tmp_path / name)


@pytest.mark.parametrize("token", ["semi;colon", "two words", "secrét", 'quo"te', "a\nb"])
def test_a_token_that_no_cookie_can_hold_is_an_error_that_does_not_show_it(token: str) -> None:
    with pytest.raises(GlamError, match="a cookie cannot hold") as error:
        find_token(READ, token, None)
    assert token not in str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.5"])
def test_without_a_token_the_service_listens_on_loopback_addresses_only(host: str, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="without a token"):
        serve(tmp_path / "i.glam", host=host, port=0)


@pytest.mark.parametrize(
    "options",
    [
        {"public_host": ["https://photos.example"]},
        {"public_host": ["two words"]},
        {"allow_origin": ["photos.example"]},
        {"allow_origin": ["*"]},
        {"trusted_proxy": ["*"]},
        {"trusted_proxy": ["proxy.example"]},
        {"root_path": "photos"},
        {"root_path": "/api"},
        {"memory": "lots"},
        {"memory": "-1GB"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="Use one such as"):
        serve(tmp_path / "i.glam", **options)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("1.5g", 15 * 10**8), ("512MiB", 512 << 20), ("1500 MB", 15 * 10**8), ("2000000", 2_000_000)],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert _parse_memory(text) == size


@contextmanager
def running(index: Path, *options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """`glam serve`, its address, and the lines of its log, which grow."""
    command = [sys.executable, "-m", "glam.app", "serve", str(index), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    lines: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or []), daemon=True)
    try:
        first = process.stderr.readline()
        lines.append(first)
        found = re.search(r"http://\S+", first)
        assert found, first
        reader.start()
        yield process, found[0], lines
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if reader.ident:
            reader.join(10)
        process.stderr.close()


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    import glam
    from glam.datasets.readers import read_folder
    from glam.index import build
    from glam.inference.pipeline import Settings

    folder = tmp_path_factory.mktemp("served")
    (folder / "images").mkdir()
    for seed in range(3):
        Image.effect_noise((64, 48), 20 + 40 * seed).convert("RGB").save(folder / "images" / f"{seed}.png")
    build(
        folder / "i.glam",
        read_folder(folder / "images"),
        glam.load("glam-lite0", "cpu"),
        settings=Settings(64, workers=1),
    )
    return folder / "i.glam"


def test_the_log_is_json_and_shows_no_secret_nor_does_the_command_line(index: Path, tmp_path: Path) -> None:
    read, write = "read-secret-123", "write-secret-456"
    (tmp_path / "write").write_text(f"{write}\n")
    with running(index, READ, read, "--write-token-file", str(tmp_path / "write")) as (process, url, lines):
        assert status(f"{url}/api/images/0") == 401
        assert status(f"{url}/api/images/0", Authorization=f"Bearer {read}") == 200
        assert status(f"{url}/api/images/0?token={read}", Cookie=f"glam_token={read}") == 200
        damaged = b"II*\x00" + bytes(60)
        body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + damaged + b"\r\n--b--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": f"Bearer {read}"}
        upload = urllib.request.Request(f"{url}/api/search", body, headers)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(upload, timeout=30)
        if sys.platform == "linux":
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert READ.encode() in command
            assert read.encode() not in command
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        time.sleep(0.2)
    records = [json.loads(line) for line in lines]
    assert sum(record["event"] == "request" for record in records) == 4
    assert not any(secret in "".join(lines) for secret in (read, write))


def test_an_empty_variable_ends_the_command_with_a_sentence(index: Path) -> None:
    command = [sys.executable, "-m", "glam.app", "serve", str(index), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLAM_READ_TOKEN": ""}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("glam: GLAM_READ_TOKEN is set, but empty.")


def test_the_second_signal_ends_the_service_whatever_runs(index: Path) -> None:
    """A request whose body does not come keeps the service from ending by itself."""
    with running(index) as (process, url, _):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                b"Content-Length: 1000\r\n\r\n--b\r\n"
            )
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(2) == -signal.SIGTERM
