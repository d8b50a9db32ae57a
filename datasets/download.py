"""Download of a data set: fetch, verify, and unpack its files, and record what was stored.

For each published file, a JSON record in the sub-folder ``.glam`` lists the files it produced: their sizes and, for a
file that is not an archive, its sha256. A later run fetches only the files whose record is missing or no longer matches
the disk.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from glam.atomic_file import atomic_write
from glam.datasets.archives import check_archive, unpack
from glam.datasets.fetch import fetch
from glam.datasets.pickles import read_plain_pickle
from glam.datasets.registry import DataSet, Remote
from glam.datasets.tables import header_of
from glam.errors import GlamError
from glam.progress import Progress

OpenProgress = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar with the given title, as `glam.app.cli.terminal.progress` does."""

HIDDEN = ".glam"
_MEGABYTE = 10**6


@dataclass(frozen=True)
class DownloadReport:
    """Result of a download.

    Attributes:
        fetched: number of published files that were fetched.
        present: number of published files that were already complete on disk.
    """

    fetched: int
    present: int


def download(data_set: DataSet, folder: Path, progress: OpenProgress) -> DownloadReport:
    """Downloads a data set into a folder. A second call resumes, and restores files that are missing or changed.

    Args:
        data_set: what to download.
        folder: target folder, created if missing.
        progress: opens a progress bar for each published file, in MB.

    Raises:
        GlamError: a file cannot be downloaded or differs from the published one, or the disk is full.
    """
    fetched = 0
    for number, remote in enumerate(data_set.files, start=1):
        if not _is_complete(remote, folder):
            with progress(f"{remote.path}, {number} of {len(data_set.files)}, MB") as report:
                try:
                    _obtain(remote, folder, _in_megabytes(report))
                except OSError as error:
                    raise GlamError(
                        f"{error.filename or folder}: {error.strerror or error}. "
                        "Fix the cause and run the command again; it resumes."
                    ) from error
            fetched += 1
    return DownloadReport(fetched, len(data_set.files) - fetched)


def _obtain(remote: Remote, folder: Path, report: Progress) -> None:
    """Fetches one published file, unpacks it if it is an archive, and records the files it produced."""
    archive = remote.unpack_to is not None
    target = folder / HIDDEN / remote.path if archive else folder / remote.path
    checksum = remote.checksum or _published_md5(remote, folder)

    def verify(file: Path) -> None:
        _verify(file, remote, checksum)

    if not (target.is_file() and (archive or checksum) and _passes(verify, target)):
        fetch(remote.addresses, target, verify=verify, progress=report, room=2 if archive else 1)
    if remote.unpack_to is None:
        _write_record(remote, folder, {remote.path: target.stat().st_size}, sha256=digest(target, "sha256"))
    else:
        sizes = unpack(target, folder / remote.unpack_to, flat=remote.flat)
        _write_record(remote, folder, {f"{remote.unpack_to}/{path}": size for path, size in sizes.items()})
        target.unlink()


def _verify(file: Path, remote: Remote, checksum: str) -> None:
    """Raises `GlamError` if the checksum of a file is not the published one, or if its format is not the expected."""
    if checksum:
        kind, _, expected = checksum.partition(":")
        if digest(file, kind) != expected:
            raise GlamError(f"its {kind} is not the published {expected}")
    if remote.unpack_to is not None:
        check_archive(file)
    elif remote.path.endswith(".pkl"):
        read_plain_pickle(file)
    else:
        header_of(file)


def _passes(verify: Callable[[Path], None], file: Path) -> bool:
    try:
        verify(file)
    except GlamError:
        return False
    return True


def _published_md5(remote: Remote, folder: Path) -> str:
    """The md5 that is published in a text file of its own, as ``md5:...``; empty if there is no such text file."""
    if not remote.checksum_address:
        return ""
    text = folder / HIDDEN / (remote.path + ".md5")
    fetch([remote.checksum_address], text, verify=_md5_in)
    found = _md5_in(text)
    text.unlink()
    return f"md5:{found}"


def _md5_in(text: Path) -> str:
    found = re.search(rb"\b[0-9a-f]{32}\b", text.read_bytes())
    if found is None:
        raise GlamError("no md5 found in it")
    return found[0].decode()


def digest(file: Path, kind: str) -> str:
    """The hexadecimal digest of a file.

    Args:
        file: the file.
        kind: name of the algorithm in `hashlib`, such as ``sha256``.
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, kind).hexdigest()


def _record_path(remote: Remote, folder: Path) -> Path:
    return folder / HIDDEN / (remote.path + ".json")


def _write_record(remote: Remote, folder: Path, sizes: dict[str, int], sha256: str = "") -> None:
    with atomic_write(_record_path(remote, folder)) as partial:
        partial.write_text(json.dumps({"sha256": sha256, "files": sizes}))


def _is_complete(remote: Remote, folder: Path) -> bool:
    """Whether every file that a published file produced is on disk as recorded."""
    try:
        record = json.loads(_record_path(remote, folder).read_text())
        complete = all((folder / path).stat().st_size == size for path, size in record["files"].items())
        return complete and (not record["sha256"] or digest(folder / remote.path, "sha256") == record["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _in_megabytes(report: Progress) -> Progress:
    return lambda done, total: report(-(-done // _MEGABYTE), -(-total // _MEGABYTE))
