"""Archives that are damaged or try to write outside the folder."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from glam.datasets.archives import check_archive, unpack
from glam.errors import GlamError


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def write(folder: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    archive = folder / "archive.tgz"
    with tarfile.open(archive, mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return archive


HONEST = (member("a", tarfile.DIRTYPE), member("a/1.jpg", content=b"one"), member("./b/2.jpg", content=b"twos"))


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_files_keep_their_folders_or_lose_them(tmp_path: Path, mode: str) -> None:
    archive = write(tmp_path, *HONEST, mode=mode)
    check_archive(archive)
    assert unpack(archive, tmp_path / "tree") == {"a/1.jpg": 3, "b/2.jpg": 4}
    assert unpack(archive, tmp_path / "flat", flat=True) == {"1.jpg": 3, "2.jpg": 4}
    assert (tmp_path / "tree/b/2.jpg").read_bytes() == (tmp_path / "flat/2.jpg").read_bytes() == b"twos"
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    "bad",
    [
        member("../out.jpg", content=b"x"),
        member("a/../../out.jpg", content=b"x"),
        member("/tmp/out.jpg", content=b"x"),
        member("..\\out.jpg", content=b"x"),
        member("a/link", tarfile.SYMTYPE, link="/etc"),
        member("a/hard", tarfile.LNKTYPE, link="a/1.jpg"),
        member("a/pipe", tarfile.FIFOTYPE),
        member("../folder", tarfile.DIRTYPE),
    ],
    ids=lambda bad: bad[0].name,
)
def test_an_archive_that_reaches_out_is_refused_as_a_whole(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    archive = write(tmp_path, *HONEST, bad)
    with pytest.raises(GlamError, match=r"leads out|neither a file nor a folder"):
        check_archive(archive)
    with pytest.raises(GlamError, match=r"leads out|neither a file nor a folder"):
        unpack(archive, tmp_path / "deep" / "in")
    assert {path.name for path in (tmp_path / "deep").rglob("*")} <= {"in", "a", "b", "1.jpg", "2.jpg"}


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="without files"):
        check_archive(write(tmp_path, HONEST[0]))


def test_every_cut_and_every_flipped_byte_of_a_zipped_archive_is_found(tmp_path: Path) -> None:
    archive = write(tmp_path, *HONEST)
    whole = archive.read_bytes()
    header = 10 + len("archive.tar") + 1  # the gzip header (time stamp and name) has no checksum
    for offset in range(header, len(whole)):
        for wrong in (whole[:offset], whole[:offset] + bytes([whole[offset] ^ 255]) + whole[offset + 1 :]):
            archive.write_bytes(wrong)
            with pytest.raises(GlamError):
                check_archive(archive)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"<html>", gzip.compress(b"<html>"), bytes(100)):
        (tmp_path / "archive").write_bytes(content)
        with pytest.raises(GlamError, match="archive"):
            check_archive(tmp_path / "archive")
