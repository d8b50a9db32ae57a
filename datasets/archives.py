"""Unpacking tar archives (plain or gzip) that somebody else made, without letting them write outside the folder."""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from glam.datasets.tables import safe_path
from glam.errors import GlamError

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


def check_archive(archive: Path) -> None:
    """Reads an archive from end to end, so that nothing of a damaged one is ever unpacked.

    Raises:
        GlamError: it is damaged or cut short, holds no file, a link or a device, or a path leads out of the folder.
    """
    with _open(archive) as stream:
        if not sum(1 for _ in _files(stream, archive)):
            raise GlamError(f"{archive.name}: an archive without files")
        while stream.read(_BLOCK):  # to the end, where gzip keeps its checksum
            pass


def unpack(archive: Path, folder: Path, *, flat: bool = False) -> dict[str, int]:
    """Unpacks the files of an archive; each appears whole, under its name, or not at all.

    Args:
        archive: which `check_archive` has passed.
        folder: where they go; it is made. Files that are there are replaced.
        flat: all into the folder itself, whatever folders they are in within the archive.

    Returns:
        The size in bytes of each file, by its path relative to the folder.

    Raises:
        GlamError: as `check_archive` does.
    """
    sizes = {}
    with _open(archive) as stream:
        for member, content in _files(stream, archive):
            path = Path(member.name).name if flat else Path(member.name).as_posix()
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            with partial.open("wb") as file:
                shutil.copyfileobj(content, file, _BLOCK)
            partial.replace(target)
            sizes[path] = member.size
    return sizes


@contextmanager
def _open(archive: Path) -> Iterator[BinaryIO]:
    """The archive's tar stream; what goes wrong in reading it is a `GlamError`."""
    try:
        with archive.open("rb") as file:
            zipped = file.read(2) == _GZIP
            file.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
    except _DAMAGE as error:
        raise GlamError(f"{archive.name}: a damaged archive: {error}") from error


def _files(stream: BinaryIO, archive: Path) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """The plain files of a tar stream, each with its content."""
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            safe_path(member.name.replace("\\", "/"), archive)
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise GlamError(f"{archive.name}: {member.name!r} is neither a file nor a folder")
            yield member, cast(BinaryIO, content)
