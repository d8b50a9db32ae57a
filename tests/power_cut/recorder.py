"""Records what a program does to a folder, as events of `tests.power_cut.disk`.

The calls of Python and of SQLite that change names or flush are observed. Before and after each the recorder compares
the folder with what the events say. So it sees writes of any library, and fails if a name changed in another way.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from .disk import Event, Link, SyncFile, SyncFolder, Truncate, Unlink, Write, _join
from .sqlite_calls import Observer, observed


class Recorder(Observer):
    """Records the changes of a folder.

    Args:
        root: the folder. What it holds now counts as flushed.

    Attributes:
        events: the events so far, beginning with those that create what was there.
        begin: number of the events that create what was there.
        missed: changes that no observed call explains.
        sqlite_writes: number of writes by SQLite.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self.events: list[Event] = []
        self.missed: list[str] = []
        self.sqlite_writes = 0
        self._inodes: dict[str, int | None] = {}
        self._contents: dict[int, bytes] = {}
        self._next = 0
        self._observe()
        folders = ["", *(name for name, inode in self._inodes.items() if inode is None)]
        self.events += [SyncFolder(folder) for folder in folders]
        self.events += [SyncFile(inode) for inode in self._inodes.values() if inode is not None]
        self.begin = len(self.events)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what happens inside the block."""
        calls = {
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "replace": self._rename,
            "rename": self._rename,
            "unlink": self._unlink,
            "remove": self._unlink,
            "rmdir": self._unlink,
            "mkdir": self._mkdir,
        }
        patches = [mock.patch.object(os, name, _wrapped(call, getattr(os, name))) for name, call in calls.items()]
        with observed(self):
            for patch in patches:
                patch.start()
            try:
                yield
            finally:
                for patch in patches:
                    patch.stop()
        self._observe()

    # What SQLite does

    def changed(self, path: str) -> None:
        self._observe()

    def wrote(self, path: str) -> None:
        self.sqlite_writes += self._name(path) is not None
        self._observe()

    def synced(self, path: str, *, folder: bool) -> None:
        self._observe()
        name = self._name(path)
        if name is not None:
            self._sync(name)
            if folder:
                self._sync(_split(name)[0])

    def deleting(self, path: str, delete: Callable[[], int], *, folder: bool) -> int:
        self._observe()
        result = delete()
        name = self._name(path)
        if name is not None and name in self._inodes and not os.path.lexists(path):
            self._forget(name)
            if folder:
                self._sync(_split(name)[0])
        self._observe()
        return result

    # What Python does

    def _fsync(self, real: Callable[..., Any], descriptor: int) -> None:
        self._observe()
        real(descriptor)
        name = self._name(Path(f"/proc/self/fd/{descriptor}").readlink())
        if name is not None:
            self._sync(name)

    def _rename(self, real: Callable[..., Any], old: Any, new: Any) -> None:
        self._observe()
        real(old, new)
        before, after = self._name(old), self._name(new)
        if before is not None and after is not None:
            (folder, name), (old_folder, old_name) = _split(after), _split(before)
            assert old_folder == folder, "renames between folders are not simulated"
            self._inodes[after] = self._inodes.pop(before)
            self.events.append(Link(folder, name, self._inodes[after], old_name))
        self._observe()

    def _unlink(self, real: Callable[..., Any], path: Any, **options: Any) -> None:
        self._observe()
        real(path, **options)
        name = self._name(path)
        if name is not None:
            self._forget(name)
        self._observe()

    def _mkdir(self, real: Callable[..., Any], path: Any, *options: Any, **more: Any) -> None:
        self._observe()
        real(path, *options, **more)
        self._observe()

    # The model

    def _sync(self, name: str) -> None:
        inode = self._inodes.get(name)
        self.events.append(SyncFolder(name) if inode is None else SyncFile(inode))

    def _forget(self, name: str) -> None:
        del self._inodes[name]
        self.events.append(Unlink(*_split(name)))

    def _name(self, path: Any) -> str | None:
        """Path relative to the root; None if it is not in it."""
        name = os.path.relpath(os.fspath(path), self._root)
        return None if name.startswith(os.pardir) else "" if name == os.curdir else name

    def _observe(self) -> None:
        """Compares the folder with the model, and records what was created and written."""
        there: set[str] = set()
        for folder, folders, files in os.walk(self._root):
            parent = self._name(folder) or ""
            for name in (*folders, *files):
                path = _join(parent, name)
                there.add(path)
                if path not in self._inodes:
                    inode = None if name in folders else self._next
                    self._next += 1
                    self._inodes[path] = inode
                    if inode is not None:
                        self._contents[inode] = b""
                    self.events.append(Link(parent, name, inode))
            for name in files:
                self._compare(self._inodes[_join(parent, name)], Path(folder, name).read_bytes())
        for name in self._inodes.keys() - there:
            self.missed.append(f"{name} vanished")
            del self._inodes[name]

    def _compare(self, inode: int | None, now: bytes) -> None:
        assert inode is not None
        before = self._contents[inode]
        if now == before:
            return
        self._contents[inode] = now
        if len(now) < len(before):
            self.events.append(Truncate(inode, len(now)))
            before = before[: len(now)]
        common = min(len(before), len(now))
        differs = np.frombuffer(before, np.uint8)[:common] != np.frombuffer(now, np.uint8)[:common]
        changed = np.flatnonzero(differs)
        first = int(changed[0]) if len(changed) else common
        last = len(now) if len(now) > common or not len(changed) else int(changed[-1]) + 1
        if first < last:
            self.events.append(Write(inode, first, now[first:last]))


def _split(name: str) -> tuple[str, str]:
    """The folder and the last part of a name."""
    folder, _, last = name.rpartition("/")
    return folder, last


def _wrapped(call: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: call(real, *arguments, **options)
