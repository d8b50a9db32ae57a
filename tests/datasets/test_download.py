"""Downloads from a local server that drops connections, sends wrong answers, and sends wrong bytes."""

import hashlib
import io
import pickle
import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import glam.datasets.fetch as fetch_module
from glam.datasets.download import DownloadReport, download
from glam.datasets.fetch import fetch
from glam.datasets.registry import DATA_SETS, DataSet, Remote, find
from glam.errors import GlamError
from glam.progress import Progress

BODY = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)

Answer = Callable[["Handler", bytes, int], None]
"""Answers a request for the bytes of a file from an offset."""


class Handler(BaseHTTPRequestHandler):
    """Serves `files`. Each request is answered by the next entry of `script`, and correctly after the last one."""

    files: dict[str, bytes]
    script: list[Answer]
    asked: list[tuple[str, int]]

    def do_GET(self) -> None:
        told = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        assert told is not None
        start = int(told[1])
        self.asked.append((self.path, start))
        body = self.files.get(self.path)
        answer = self.script.pop(0) if self.script else rightly
        if body is None:
            self.send_error(404)
        else:
            answer(self, body, start)

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def rightly(
    handler: Handler, body: bytes, start: int, *, claimed: int | None = None, sent: bytes | None = None
) -> None:
    """Sends the requested bytes, or others that claim to be the requested ones."""
    claimed = start if claimed is None else claimed
    if start == 0:
        handler.begin(200, len(body), Content_Type="application/octet-stream")
    elif start < len(body):
        content_range = f"bytes {claimed}-{len(body) - 1}/{len(body)}"
        handler.begin(206, len(body) - start, Content_Range=content_range)
    else:
        handler.send_error(416)
        return
    handler.wfile.write(body[start:] if sent is None else sent)


def dropping(count: int) -> Answer:
    return lambda handler, body, start: rightly(handler, body, start, sent=body[start : start + count])


def wrong_range(handler: Handler, body: bytes, start: int) -> None:
    rightly(handler, body, start, claimed=start // 2, sent=body[start // 2 :][: len(body) - start])


def lying_range(handler: Handler, body: bytes, start: int) -> None:
    rightly(handler, body, start, sent=body[: len(body) - start])


def ignoring_range(handler: Handler, body: bytes, start: int) -> None:
    rightly(handler, body, 0)


def corrupted(handler: Handler, body: bytes, start: int) -> None:
    """Sends a wrong last byte."""
    rightly(handler, body, start, sent=body[start:-1] + bytes([body[-1] ^ 1]))


def failing(handler: Handler, body: bytes, start: int) -> None:
    handler.send_error(503)


def web_page(handler: Handler, body: bytes, start: int) -> None:
    handler.begin(200, len(body), Content_Type="text/html; charset=utf-8")
    handler.wfile.write(body)


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A server with `files` and `script` to fill, its address `at`, and the requests `asked`; ``/file`` is `BODY`."""
    state: dict[str, object] = {"files": {"/file": BODY}, "script": [], "asked": []}
    listening = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), state))
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield SimpleNamespace(at=f"http://127.0.0.1:{listening.server_address[1]}", **state)
    listening.shutdown()
    listening.server_close()


fetch_at_once = partial(fetch, pause=0.0)


def right(file: Path) -> None:
    if hashlib.md5(file.read_bytes()).digest() != hashlib.md5(BODY).digest():
        raise GlamError("another checksum")


def test_three_interruptions_end_with_the_right_bytes_and_little_is_fetched_twice(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    server.script[:] = [dropping(700_000), dropping(700_000), dropping(700_000)]
    reports: list[tuple[int, int]] = []
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right, progress=lambda *report: reports.append(report))
    assert (tmp_path / "f").read_bytes() == BODY
    step = 700_000 - fetch_module.OVERLAP
    assert [start for _, start in server.asked] == [0, step, 2 * step, 3 * step]
    assert reports[-1] == (len(BODY), len(BODY))
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_drop_a_wrong_range_and_a_corrupted_body_end_with_the_right_bytes(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    server.script[:] = [dropping(1_000_000), wrong_range, dropping(2_000_000), corrupted]
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert (tmp_path / "f").read_bytes() == BODY
    assert [start > 0 for _, start in server.asked] == [False, True, False, True, False]


@pytest.mark.parametrize("script", [[corrupted] * 99, [dropping(900_000), failing, *[corrupted] * 99]])
def test_wrong_bytes_are_never_put_in_place(server: SimpleNamespace, tmp_path: Path, script: list[Answer]) -> None:
    server.script[:] = script
    (tmp_path / "f").write_bytes(b"the former file")
    with pytest.raises(GlamError, match=r"f could not be downloaded .* another checksum"):
        fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert (tmp_path / "f").read_bytes() == b"the former file"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert sum(start == 0 for _, start in server.asked) == 2  # a wrong file is not fetched five times


def lying_total(handler: Handler, body: bytes, start: int) -> None:
    """Sends the right bytes, and a length of the file that is too small."""
    content_range = f"bytes {start}-{len(body) - 1}/{len(body) - 5}"
    handler.begin(206, len(body) - start, Content_Range=content_range)
    handler.wfile.write(body[start:])


def without_total(handler: Handler, body: bytes, start: int) -> None:
    handler.begin(206, len(body) - start, Content_Range=f"bytes {start}-{len(body) - 1}/*")
    handler.wfile.write(body[start:])


@pytest.mark.parametrize("answer", [lying_range, ignoring_range, wrong_range, lying_total, without_total])
def test_a_server_that_cannot_resume_is_detected_without_a_checksum(
    server: SimpleNamespace, tmp_path: Path, answer: Answer
) -> None:
    server.script[:] = [dropping(1_500_000), answer]
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=lambda file: None)
    assert (tmp_path / "f").read_bytes() == BODY


def test_another_range_is_refused_even_where_its_first_bytes_are_alike(server: SimpleNamespace, tmp_path: Path) -> None:
    server.files["/even"] = bytes(2_000_000) + BODY
    server.script[:] = [dropping(1_000_000), wrong_range]
    fetch_at_once([f"{server.at}/even"], tmp_path / "f", verify=lambda file: None)
    assert (tmp_path / "f").read_bytes() == server.files["/even"]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "f.partial").write_bytes(OTHER[:2_000_000])
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=lambda file: None)
    assert (tmp_path / "f").read_bytes() == BODY


def test_remains_of_a_longer_file_are_dropped(server: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "f.partial").write_bytes(BODY + OTHER)
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize("more", [1, 100, fetch_module.OVERLAP - 1])
@pytest.mark.parametrize("script", [[], [without_total]], ids=["total", "no total"])
def test_remains_that_are_a_little_longer_are_dropped_too(
    server: SimpleNamespace, tmp_path: Path, more: int, script: list[Answer]
) -> None:
    """The server then sends a range, unlike for remains that are longer by more than the overlap."""
    server.script[:] = script
    (tmp_path / "f.partial").write_bytes(BODY + OTHER[:more])
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert [start for _, start in server.asked] == [len(BODY) + more - fetch_module.OVERLAP, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def versioned(version: str, count: int | None = None) -> Answer:
    """Sends an ETag, and the first ``count`` of the requested bytes."""

    def answer(handler: Handler, body: bytes, start: int) -> None:
        end_headers = handler.end_headers

        def with_version() -> None:
            handler.send_header("ETag", version)
            end_headers()

        handler.end_headers = with_version  # type: ignore[method-assign]
        rightly(handler, body, start, sent=None if count is None else body[start : start + count])

    return answer


def test_a_file_of_another_version_is_begun_anew(server: SimpleNamespace, tmp_path: Path) -> None:
    """Its last bytes on disk are the same, so that only the version tells."""
    server.script[:] = [versioned('"1"', 1_000_000), *[failing] * fetch_module.TRIES]
    with pytest.raises(GlamError, match="503"):
        fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=lambda file: None)
    server.files["/file"] = OTHER[:100] + BODY[100:]
    server.script[:] = [versioned('"2"'), versioned('"2"')]
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=lambda file: None)
    assert (tmp_path / "f").read_bytes() == server.files["/file"]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("length", ["3000000, 3000000", "abc", "-1", "9" * 5000, "3000000, 7"])
def test_an_odd_length_is_ignored(server: SimpleNamespace, tmp_path: Path, length: str) -> None:
    def oddly(handler: Handler, body: bytes, start: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(body)

    server.script[:] = [oddly]
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert (tmp_path / "f").read_bytes() == BODY


def test_each_byte_of_a_cut_transfer_is_kept(server: SimpleNamespace, tmp_path: Path) -> None:
    """A block that is not complete is kept, too, with a length and in chunks."""

    def chunked(handler: Handler, body: bytes, start: int) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % 200_000 + body[start : start + 100_000])  # cut within a chunk

    server.script[:] = [dropping(100_000), chunked, *[failing] * fetch_module.TRIES]
    with pytest.raises(GlamError, match="503"):
        fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert (tmp_path / "f.partial").read_bytes() == BODY[: 200_000 - fetch_module.OVERLAP]


def test_the_next_call_goes_on_where_the_last_one_gave_up(server: SimpleNamespace, tmp_path: Path) -> None:
    server.script[:] = [dropping(1_000_000), *[failing] * fetch_module.TRIES]
    with pytest.raises(GlamError, match="503"):
        fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert not (tmp_path / "f").exists()
    server.script.clear()
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert server.asked[-1][1] == 1_000_000 - fetch_module.OVERLAP
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_long_file_over_a_bad_line_arrives_as_long_as_each_try_brings_some(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    server.script[:] = [dropping(200_000)] * 30
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)
    assert (tmp_path / "f").read_bytes() == BODY


def test_the_next_address_resumes_the_partial_download(server: SimpleNamespace, tmp_path: Path) -> None:
    server.files["/mirror"] = BODY
    server.script[:] = [dropping(1_000_000), *[failing] * fetch_module.TRIES]
    addresses = ["http://127.0.0.1:9/file", f"{server.at}/none", f"{server.at}/file", f"{server.at}/mirror"]
    server.script.insert(0, rightly)  # for the file that does not exist
    fetch_at_once(addresses, tmp_path / "f", verify=right)
    assert server.asked[-1] == ("/mirror", 1_000_000 - fetch_module.OVERLAP)
    assert (tmp_path / "f").read_bytes() == BODY


def test_the_error_names_every_address_and_its_fault(server: SimpleNamespace, tmp_path: Path) -> None:
    server.script[:] = [rightly, web_page]
    with pytest.raises(GlamError, match=r"/none: the server answers 404 .*/file: the server answers with a web page"):
        fetch_at_once([f"{server.at}/none", f"{server.at}/file"], tmp_path / "f", verify=lambda file: None)
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_told_before_anything_is_written(
    server: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = len(BODY) + fetch_module.SPARE_ROOM
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(GlamError, match=r"the disk has 0\.1 GB free"):
        fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right, room=2)
    assert len(server.asked) == 1
    assert not any(tmp_path.iterdir())
    fetch_at_once([f"{server.at}/file"], tmp_path / "f", verify=right)


def tar(files: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@contextmanager
def silent(title: str) -> Iterator[Progress]:
    yield lambda done, total: None


PLAIN = tar({"0/1/2/012.jpg": BODY[:1000], "0/1/3/013.jpg": BODY[:2000]}, "w:")
ZIPPED = tar({"paris/louvre/a.jpg": BODY[:3000]}, "w:gz")


@pytest.fixture
def data_set(server: SimpleNamespace) -> DataSet:
    """A data set of a list, an archive with a published md5, and an archive without."""
    md5 = f"{hashlib.md5(PLAIN).hexdigest()}  images_000.tar\n".encode()
    server.files.update({"/list.pkl": pickle.dumps(["a"]), "/p.tar": PLAIN, "/p.md5": md5, "/z.tgz": ZIPPED})
    return DataSet(
        "made-up",
        "",
        (
            Remote("list.pkl", (f"{server.at}/list.pkl",)),
            Remote("p.tar", (f"{server.at}/p.tar",), checksum_address=f"{server.at}/p.md5", unpack_to="train"),
            Remote("z.tgz", (f"{server.at}/z.tgz",), unpack_to="jpg", flat=True),
        ),
    )


def files_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and ".glam" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


WHOLE = {
    "list.pkl": pickle.dumps(["a"]),
    "train/0/1/2/012.jpg": BODY[:1000],
    "train/0/1/3/013.jpg": BODY[:2000],
    "jpg/a.jpg": BODY[:3000],
}


def test_a_data_set_is_fetched_once_and_what_is_missing_or_other_again(
    server: SimpleNamespace, data_set: DataSet, tmp_path: Path
) -> None:
    assert download(data_set, tmp_path, silent) == DownloadReport(3, 0)
    assert files_in(tmp_path) == WHOLE
    assert not list(tmp_path.rglob("*.tar")) + list(tmp_path.rglob("*.tgz")) + list(tmp_path.rglob("*.partial"))
    server.asked.clear()
    assert download(data_set, tmp_path, silent) == DownloadReport(0, 3)
    assert server.asked == []
    (tmp_path / "train/0/1/2/012.jpg").unlink()
    (tmp_path / "jpg/a.jpg").write_bytes(b"cut")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(["b"]))  # of the right length
    assert download(data_set, tmp_path, silent) == DownloadReport(3, 0)
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("path", "body", "message", "absent"),
    [
        ("/p.tar", PLAIN[:-1] + b"x", "its md5 is not the published", "train/0/1/2/012.jpg"),
        ("/p.md5", b"moved", "no md5 found in it", "train/0/1/2/012.jpg"),
        ("/z.tgz", ZIPPED[:-8] + bytes(8), "damaged archive", "jpg/a.jpg"),
        ("/z.tgz", ZIPPED[: len(ZIPPED) // 2], "damaged archive", "jpg/a.jpg"),
        ("/z.tgz", tar({"../../escaped.jpg": b"x"}, "w:gz"), "leads out", "jpg/a.jpg"),
        ("/list.pkl", b"<html>", "not a pickle", "list.pkl"),
    ],
    ids=("md5", "no md5", "checksum", "half", "path", "pickle"),  # the archives hold the time at which they were made
)
def test_what_is_not_as_published_is_never_in_place(
    server: SimpleNamespace, data_set: DataSet, tmp_path: Path, path: str, body: bytes, message: str, absent: str
) -> None:
    server.files[path] = body
    with pytest.raises(GlamError, match=message):
        download(data_set, tmp_path / "a" / "b", silent)
    found = files_in(tmp_path / "a" / "b")
    assert found.items() <= WHOLE.items()
    assert absent not in found
    assert not (tmp_path / "escaped.jpg").exists()


def test_a_run_that_died_while_unpacking_unpacks_again_without_a_download(
    server: SimpleNamespace, data_set: DataSet, tmp_path: Path
) -> None:
    (tmp_path / ".glam").mkdir()
    (tmp_path / ".glam" / "z.tgz").write_bytes(ZIPPED)
    (tmp_path / ".glam" / "p.tar").write_bytes(OTHER)
    download(data_set, tmp_path, silent)
    assert files_in(tmp_path) == WHOLE
    assert {path for path, _ in server.asked} == {"/list.pkl", "/p.tar", "/p.md5"}


def test_the_catalog_is_whole() -> None:
    for known in DATA_SETS:
        assert find(known.name) is known
        paths = [remote.path for remote in known.files]
        assert len(set(paths)) == len(paths)
        for remote in known.files:
            assert remote.addresses
            assert all(re.match(r"https?://[a-z0-9.]+/", address) for address in remote.addresses)
    parts = [remote for remote in find("gldv2").files if remote.unpack_to]
    assert len(parts) == 500
    assert parts[499].addresses == ("https://s3.amazonaws.com/google-landmark/train/images_499.tar",)
    assert parts[7].checksum_address == "https://s3.amazonaws.com/google-landmark/md5sum/train/md5.images_007.txt"
    with pytest.raises(GlamError, match="Choose one of roxford5k, rparis6k"):
        find("oxford")
