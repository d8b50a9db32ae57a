"""Resumable HTTP download of one file, from the first address that works.

The bytes are written to ``NAME.partial``, which is renamed once it is complete and verified. An interrupted transfer
resumes, in the same call or in a later one. When it resumes, the last bytes on disk are requested again and compared,
and the version that the server names (ETag or Last-Modified) with the one noted in ``NAME.partial.version``. If the
server ignores the range, contradicts itself, or has another version of the file, the download starts over.
"""

import errno
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from glam.errors import GlamError
from glam.progress import Progress, no_progress

Verify = Callable[[Path], object]
"""Raises `GlamError` if a file is not the expected one."""

TRIES = 5
"""Consecutive failures without a new byte before the next address is tried (arbitrary)."""
WRONG_FILES = 2
"""Complete but wrong files before the next address is tried: the first may have been damaged in transit."""
PAUSE = 1.0
"""Seconds before the second try, doubled before each further try (arbitrary)."""
TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as lost (arbitrary)."""
OVERLAP = 1 << 16
"""Bytes that a resumed transfer requests again for comparison (arbitrary)."""
BLOCK = 1 << 20
"""Maximum number of bytes that are written at a time (arbitrary)."""
SPARE_ROOM = 100_000_000
"""Bytes that a download leaves free on the disk (arbitrary)."""

_NUMBER = r"\d{1,18}"
"""A number in a header; none of a file has more digits, and Python refuses thousands of them."""

_LOCAL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})
"""Errors of the local disk, which another try cannot fix."""


class _Refused(Exception):
    """The server does not have the file at this address."""


class _Mismatch(Exception):
    """The response does not continue the bytes on disk, so the download has to start over."""


class _Interrupted(Exception):
    """The response ended early."""


def fetch(
    addresses: Sequence[str],
    target: Path,
    *,
    verify: Verify,
    progress: Progress = no_progress,
    room: int = 1,
    pause: float = PAUSE,
) -> None:
    """Downloads a file to ``target``, replacing an existing file.

    Args:
        addresses: http or https URLs, tried in order.
        target: path of the file; its folder is created if missing.
        verify: called with the path of the complete temporary file before it is renamed.
        progress: called with bytes done and total bytes, if the server sends the length of the file.
        room: required disk space as a multiple of the file's length; 2 for an archive that will be unpacked.
        pause: seconds before the second try, doubled before each further try.

    Raises:
        GlamError: no address provides the expected file, or the disk is full. ``target`` is then unchanged. A partial
            download is kept for the next call unless it turned out to be wrong.
    """
    partial = target.with_name(target.name + ".partial")
    faults = []
    for address in addresses:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fault = _fetch_from(address, partial, verify, progress, room, pause)
            if not fault:
                partial.replace(target)
                _version_file(partial).unlink(missing_ok=True)
                return
        except OSError as error:
            raise GlamError(
                f"{target} cannot be written: {error.strerror or error}. Free disk space or choose another folder."
            ) from error
        faults.append(f"{address}: {fault}")
    raise GlamError(f"{target.name} could not be downloaded ({'; '.join(faults)}). Run the command again to retry.")


def _fetch_from(address: str, partial: Path, verify: Verify, progress: Progress, room: int, pause: float) -> str:
    """Tries one address until the verified file is at ``partial``; returns "" then, else the reason for giving up."""
    failures = wrong_files = 0
    furthest = _size(partial)
    while True:
        try:
            _transfer(address, partial, progress, room)
            verify(partial)
            return ""
        except _Refused as error:
            return str(error)
        except (GlamError, _Mismatch) as error:
            fault = str(error)
            wrong_files += isinstance(error, GlamError)
            partial.unlink(missing_ok=True)
            _version_file(partial).unlink(missing_ok=True)
        except (OSError, http.client.HTTPException, _Interrupted) as error:
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                raise
            fault = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 1 if _size(partial) > furthest else failures + 1
        furthest = max(furthest, _size(partial))
        if failures >= TRIES or wrong_files >= WRONG_FILES:
            return fault
        time.sleep(pause * 2 ** (failures - 1))


def _transfer(address: str, partial: Path, progress: Progress, room: int) -> None:
    """Requests the missing bytes of ``partial`` once and appends them. Each byte that came is on disk if it fails."""
    here = _size(partial)
    start = max(0, here - OVERLAP)
    with _request(address, start) as response:
        offset, total = _content_range(response, start)
        if total is not None:
            _check_free_space(partial.parent, room * total - here)
        if offset:
            if total is not None and here > total:
                raise _Mismatch("the server's file is shorter than the partial download")
            _check_version(response, address, partial)
        with partial.open("r+b" if offset else "wb") as file:
            if offset:
                _compare(response, file, offset, here)
            else:
                _note_version(response, address, partial)
            end = file.tell()
            while (total is None or end < total) and (block := response.read1(BLOCK)):  # whatever came, without waiting
                file.write(block)
                end += len(block)
                if total is not None:
                    progress(end, total)
    if total is not None and end < total:
        raise _Interrupted(f"the connection ended after {end} of {total} bytes")


def _request(address: str, start: int) -> http.client.HTTPResponse:
    """Requests the bytes from ``start`` to the end."""
    headers = {"User-Agent": "glam-retrieval", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise _Mismatch("the server's file is shorter than the partial download") from error
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise _Refused(f"the server answers {error.code} {error.reason}") from error
    except ValueError as error:  # an address that the server redirects to
        raise _Refused(f"the server redirects to an invalid address ({error})") from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _Refused("the server answers with a web page")
    return response


def _content_range(response: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
    """The offset in bytes at which a response begins, and the length of the file in bytes; None if not sent.

    Raises:
        _Mismatch: the headers name another range than the requested one, or contradict each other.
    """
    length = _content_length(response)
    if response.status != 206:
        return 0, length
    found = re.fullmatch(rf"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER}|\*)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        raise _Mismatch("the server sends another range of the file than the requested one")
    end = int(found[2]) + 1
    total = end if found[3] == "*" else int(found[3])
    if not start < end <= total or length not in (None, end - start):
        raise _Mismatch("the server contradicts itself about the range that it sends")
    return start, total


def _content_length(response: http.client.HTTPResponse) -> int | None:
    """The length of a response in bytes; None if it is not sent, or is not one number."""
    sent = {value.strip() for line in response.headers.get_all("Content-Length", []) for value in line.split(",")}
    length = sent.pop() if len(sent) == 1 else ""
    return int(length) if re.fullmatch(_NUMBER, length) else None


def _version(response: http.client.HTTPResponse, address: str) -> str:
    """The address and the version of the file that the server names; empty if it names none."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    return f"{address}\n{version}" if version else ""


def _note_version(response: http.client.HTTPResponse, address: str, partial: Path) -> None:
    version = _version(response, address)
    if version:
        _version_file(partial).write_text(version, encoding="utf-8")
    else:
        _version_file(partial).unlink(missing_ok=True)


def _check_version(response: http.client.HTTPResponse, address: str, partial: Path) -> None:
    """Compares versions, unless the partial download came from another address, whose versions mean nothing here."""
    file = _version_file(partial)
    noted = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    now = _version(response, address)
    if now and noted.startswith(f"{address}\n") and now != noted:
        raise _Mismatch("the server's file has changed since the partial download began")


def _version_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".version")


def _compare(response: http.client.HTTPResponse, file: BinaryIO, offset: int, here: int) -> None:
    """Compares the first bytes of a response with those on disk, and leaves ``file`` positioned at its end."""
    file.seek(offset)
    known = file.read(here - offset)
    again = response.read(len(known))
    if again != known[: len(again)]:
        raise _Mismatch("the server's file differs from the partial download")
    if len(again) < len(known):
        raise _Interrupted("the connection ended at once")


def _check_free_space(folder: Path, required: int) -> None:
    free = shutil.disk_usage(folder).free
    if required + SPARE_ROOM > free:
        raise OSError(
            errno.ENOSPC, f"the disk has {free / 1e9:.1f} GB free, but the download needs {required / 1e9:.1f} GB"
        )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
