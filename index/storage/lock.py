"""The lock that keeps two writers apart: one file, held with flock, that says who holds it.

    Writer, migrate --exclusive--> PATH.glam/lock <--shared-- verify

The kernel lets go of it when its holder ends in whatever way, so a lock is never left behind; words in the file may be.
"""

import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from glam.errors import GlamError

LOCK = "lock"


class InUseError(GlamError):
    """Another process or thread holds the lock; the sentence says who."""


@dataclass(frozen=True)
class Owner:
    """Who holds the lock.

    Attributes:
        pid: of the process.
        host: on which it runs.
        command: its command line.
        since: when it took the lock, ISO 8601 with the zone.
    """

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}), since {self.since}"


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of the index in ``folder`` for its one writer.

    Raises:
        InUseError: another process or thread holds it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(descriptor, fcntl.LOCK_EX, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(_this_process())).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def read_lock(folder: Path) -> Iterator[None]:
    """Keeps writers away from the index in ``folder``; others may do the same at the same time.

    Raises:
        InUseError: a writer is at work.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        _take(descriptor, fcntl.LOCK_SH, folder)
        yield
    finally:
        os.close(descriptor)


def owner(folder: Path) -> Owner | None:
    """Who writes to the index in ``folder`` now; None where nobody does."""
    try:
        with read_lock(folder):
            return None
    except InUseError:
        return recorded_owner(folder)


def recorded_owner(folder: Path) -> Owner | None:
    """Who the lock says holds it; one that was killed still stands there. None where nobody does.

    Raises:
        GlamError: what stands there is no owner.
    """
    try:
        text = (folder / LOCK).read_bytes()
        return Owner(**json.loads(text)) if text else None
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise GlamError("damaged: neither empty nor the name of a writer") from error


def _take(descriptor: int, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = recorded_owner(folder) or "another process, which checks it"
        raise InUseError(f"{folder} is in use by {holder}; try again when it has ended") from error


def _this_process() -> Owner:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return Owner(os.getpid(), socket.gethostname(), command, datetime.now().astimezone().isoformat(timespec="seconds"))
