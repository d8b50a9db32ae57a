"""Transfers of single files from a server that fails in every way."""

import hashlib
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import glam.datasets.fetch as fetch_module
from glam.datasets.fetch import fetch
from glam.errors import GlamError
from tests.datasets.file_server import (
    BODY,
    OTHER,
    Answer,
    Handler,
    corrupted,
    dropping,
    failing,
    ignoring_range,
    lying_range,
    rightly,
    web_page,
    wrong_range,
)

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
