"""The lock of an index, which allows one writer at a time: a file held with flock that records its owner.

    Writer, migrations --exclusive--> PATH.glam/lock <--shared-- verify

The kernel releases the lock when its owner ends, even by a kill, so a stale lock is impossible. The record of a killed
owner stays in the file. If somebody deletes the file while a writer is active, another writer can lock a new file. So a
writer checks before each change that the file is still the one it locked, inside an SQLite transaction, which only one
process at a time can begin.
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
from glam.strict_json import from_values, parse_json

LOCK = "lock"
"""Name of the file."""


class InUseError(GlamError):
    """Another process or thread holds the lock; the message names it."""


@dataclass(frozen=True)
class Owner:
    """The process that holds the lock.

    Attributes:
        pid: id of the process.
        host: name of the machine that it runs on.
        command: its command line.
        since: time when it acquired the lock, in ISO 8601 with the time zone.
    """

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}), since {self.since}"


class LockLostError(InUseError):
    """Somebody deleted the lock of a writer, so another writer may be active; nothing more may be changed."""


@dataclass(frozen=True)
class HeldLock:
    """The lock of an index, held for writing.

    Attributes:
        file: path of the lock.
        descriptor: descriptor of the open file.
    """

    file: Path
    descriptor: int

    def check(self) -> None:
        """Checks that the file is still the one that was locked.

        Raises:
            LockLostError: it was deleted or replaced.
        """
        try:
            found = self.file.stat(follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or not os.path.samestat(found, os.fstat(self.descriptor)):
            raise LockLostError(
                f"{self.file} was deleted while this command was writing, so it stopped. What it had committed is in "
                "the index. Run the command again."
            )


@contextmanager
def write_lock(folder: Path) -> Iterator[HeldLock]:
    """Holds the lock of an index for writing.

    Args:
        folder: folder of the index.

    Yields:
        The lock.

    Raises:
        InUseError: another process or thread holds the lock.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, fcntl.LOCK_EX, folder)
        held = HeldLock(folder / LOCK, descriptor)
        held.check()  # it may have been deleted between the two steps
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(_this_process())).encode(), 0)
        try:
            yield held
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def read_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of an index for reading: it keeps writers out, but not other readers.

    Args:
        folder: folder of the index.

    Raises:
        InUseError: a writer is active.
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
    """The active writer of an index.

    Args:
        folder: folder of the index.

    Returns:
        The owner of the lock; None if no writer is active.
    """
    try:
        with read_lock(folder):
            return None
    except InUseError:
        return recorded_owner(folder)


def recorded_owner(folder: Path) -> Owner | None:
    """The owner recorded in the lock file, which may have been killed.

    Args:
        folder: folder of the index.

    Returns:
        The owner; None if the file is empty or missing.

    Raises:
        GlamError: the content of the file is damaged.
    """
    try:
        text = (folder / LOCK).read_bytes()
        return from_values(Owner, parse_json(text)) if text else None
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise GlamError(
            f"{folder / LOCK} is damaged: it is neither empty nor the record of a writer. If a writer is active, wait "
            "until it has finished; the next one replaces the record."
        ) from error


def _take(descriptor: int, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = recorded_owner(folder) or "another process (`glam index verify`)"
        raise InUseError(f"{folder} is in use by {holder}. Wait until it has finished, and try again.") from error


def _this_process() -> Owner:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return Owner(os.getpid(), socket.gethostname(), command, datetime.now().astimezone().isoformat(timespec="seconds"))
