"""Safe unpacking of downloaded tar archives, plain or gzip: nothing is written outside the target folder."""

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
    """Reads an archive from end to end without unpacking it, so that a damaged one is found before anything is written.

    Args:
        archive: path of the tar file, plain or gzip.

    Raises:
        GlamError: the archive is damaged, truncated, or empty, contains a link or a device, or contains a path that
            leads out of the folder.
    """
    with _open(archive) as stream:
        if not sum(1 for _ in _files(stream, archive)):
            raise GlamError(f"{archive.name} is an archive without files. Download it again.")
        while stream.read(_BLOCK):  # the checksum of gzip is at the end of the stream
            pass


def unpack(archive: Path, folder: Path, *, flat: bool = False) -> dict[str, int]:
    """Unpacks the files of an archive, each of them atomically.

    Args:
        archive: path of a tar file that `check_archive` has accepted.
        folder: target folder, created if missing. Existing files are replaced.
        flat: drop the folders inside the archive, so that all files are directly in ``folder``.

    Returns:
        The size of each file in bytes, by its path relative to ``folder``.

    Raises:
        GlamError: the archive is damaged, contains a link or a device, or contains a path that leads out of the folder.
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
    """Opens the tar stream of an archive; errors while it is read are raised as `GlamError`."""
    try:
        with archive.open("rb") as file:
            zipped = file.read(2) == _GZIP
            file.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
    except _DAMAGE as error:
        raise GlamError(f"{archive.name} is a damaged archive ({error}). Download it again.") from error


def _files(stream: BinaryIO, archive: Path) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Yields each regular file of a tar stream with its content."""
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            safe_path(member.name.replace("\\", "/"), archive)
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise GlamError(
                    f"{archive.name}: {member.name!r} is neither a file nor a folder, so nothing was unpacked. "
                    "Download the archive again."
                )
            yield member, cast(BinaryIO, content)
