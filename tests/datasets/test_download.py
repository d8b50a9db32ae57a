"""Downloads of data sets: checks, archives, and what is there already."""

import hashlib
import io
import pickle
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from glam.datasets.download import DownloadReport, download
from glam.datasets.registry import DATA_SETS, DataSet, Remote, find
from glam.errors import GlamError
from glam.progress import Progress
from tests.datasets.file_server import (
    BODY,
    OTHER,
)


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
