"""Fetching one file over HTTP, from the first of its addresses that gives it.

The bytes go to ``NAME.partial``; they get their name only once they are complete and verified, so a file that is in
place is whole. An interrupted transfer goes on where it stopped, in this call or in the next one. The last bytes that
are there are asked for again and compared: a server that sends another range than it says, or another version of the
file, is found out at once and the file begun anew.
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
"""Raises `GlamError` where a file is not the wanted one."""

TRIES = 5
"""Failures in a row, without a new byte, until an address is given up."""
WRONG_FILES = 2
"""Whole files that are not the wanted one until an address is given up: one may have been damaged on the way."""
PAUSE = 1.0
"""Seconds before the second try; doubled before each further one."""
TIMEOUT = 30.0
"""Seconds without any byte until a connection counts as lost."""
OVERLAP = 1 << 16
"""Bytes that are fetched twice where a transfer goes on, to compare."""
BLOCK = 1 << 20
SPARE_ROOM = 100_000_000
"""Bytes of the disk that a download leaves free."""

_OWN_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})
"""Errors of this machine's disk, which no other try mends."""


class _Refused(Exception):
    """The address does not have the file."""


class _Mismatch(Exception):
    """The answer does not continue what is there: begin anew."""


class _Interrupted(Exception):
    """The answer ended early."""


def fetch(
    addresses: Sequence[str],
    target: Path,
    *,
    verify: Verify,
    progress: Progress = no_progress,
    room: int = 1,
    pause: float = PAUSE,
) -> None:
    """Fetches a file to ``target``; what was there is replaced.

    Args:
        addresses: http or https, tried in this order.
        target: where it goes; its folder is made.
        verify: called with the complete file under another name.
        progress: called with the bytes there are and the bytes in all, as it goes, where the server says how long the
            file is.
        room: disk space wanted, as a multiple of the file's length: 2 where it is to be unpacked.
        pause: seconds before the second try; doubled before each further one.

    Raises:
        GlamError: no address gives the right file, or the disk is too full. Nothing is put in place; what came is
            kept for the next call as long as it may be right.
    """
    partial = target.with_name(target.name + ".partial")
    faults = []
    for address in addresses:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fault = _fetch_from(address, partial, verify, progress, room, pause)
            if not fault:
                partial.replace(target)
                return
        except OSError as error:
            raise GlamError(f"{target}: {error.strerror or error}") from error
        faults.append(f"{address}: {fault}")
    raise GlamError(f"{target.name} could not be downloaded ({'; '.join(faults)})")


def _fetch_from(address: str, partial: Path, verify: Verify, progress: Progress, room: int, pause: float) -> str:
    """Tries one address until the verified file is at ``partial``; else says why it was given up."""
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
        except (OSError, http.client.HTTPException, _Interrupted) as error:
            if isinstance(error, OSError) and error.errno in _OWN_ERRORS:
                raise
            fault = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 1 if _size(partial) > furthest else failures + 1
        furthest = max(furthest, _size(partial))
        if failures >= TRIES or wrong_files >= WRONG_FILES:
            return fault
        time.sleep(pause * 2 ** (failures - 1))


def _transfer(address: str, partial: Path, progress: Progress, room: int) -> None:
    """Asks an address once for what is missing of ``partial``, and appends it."""
    here = _size(partial)
    start = max(0, here - OVERLAP)
    with _request(address, start) as response:
        offset, total = _content_range(response, start)
        if total is not None:
            _check_free_space(partial.parent, room * total - here)
        with partial.open("r+b" if offset else "wb") as file:
            if offset:
                _compare(response, file, offset, here)
            while block := response.read(BLOCK):
                file.write(block)
                if total is not None:
                    progress(file.tell(), total)
            end = file.tell()
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
            raise _Mismatch("the file is shorter than what is here") from error
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise _Refused(f"the server answers {error.code} {error.reason}") from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _Refused("the server answers with a web page")
    return response


def _content_range(response: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
    """The offset in the file at which a response begins, and the length of the file in bytes, if the server says."""
    if response.status == 206:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if content_range is None or int(content_range[1]) != start:
            raise _Mismatch("the server answers with another part of the file than the one asked for")
        return start, None if content_range[2] == "*" else int(content_range[2])
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _compare(response: http.client.HTTPResponse, file: BinaryIO, offset: int, here: int) -> None:
    """Reads the bytes that are here already and leaves ``file`` at its end."""
    file.seek(offset)
    known = file.read(here - offset)
    again = response.read(len(known))
    if again != known[: len(again)]:
        raise _Mismatch("the server's file is not the one that was begun")
    if len(again) < len(known):
        raise _Interrupted("the connection ended at once")


def _check_free_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted + SPARE_ROOM > free:
        raise OSError(errno.ENOSPC, f"the disk has {free / 1e9:.1f} GB free, and this wants {wanted / 1e9:.1f} GB more")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
