"""A simulated disk: what a folder may hold after a power cut.

    Recorder --events--> crash_states --> files that may be on the disk after the first n events

Only what was flushed is certain. Of the rest, each write and each change of a name may be there or not, whatever the
order, and a write may be there in part.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
"""Bytes that a disk writes completely or not at all."""


class Write(NamedTuple):
    """Bytes written to a file."""

    inode: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    """A file got this size."""

    inode: int
    size: int


class Link(NamedTuple):
    """A name of a file, or of a folder if the inode is None, was created or replaced, and ``instead_of`` deleted."""

    folder: str
    name: str
    inode: int | None
    instead_of: str | None = None


class Unlink(NamedTuple):
    """A name was deleted."""

    folder: str
    name: str


class SyncFile(NamedTuple):
    """The content of a file was flushed."""

    inode: int


class SyncFolder(NamedTuple):
    """The names in a folder were flushed."""

    folder: str


Event = Write | Truncate | Link | Unlink | SyncFile | SyncFolder


@dataclass(frozen=True)
class State:
    """Folders and files on a disk, by their paths relative to its root."""

    folders: frozenset[str]
    files: dict[str, bytes]

    @property
    def key(self) -> tuple[frozenset[str], frozenset[tuple[str, bytes]]]:
        """Equal for equal states."""
        return self.folders, frozenset(self.files.items())

    def write(self, root: Path) -> None:
        """Creates the folders and files in an empty folder."""
        for folder in sorted(self.folders):
            (root / folder).mkdir()
        for name, content in self.files.items():
            (root / name).write_bytes(content)


def replay(events: Sequence[Event]) -> State:
    """The state after these events, all of which reached the disk."""
    contents: dict[int, bytearray] = {}
    names: dict[str, int | None] = {}
    for event in events:
        match event:
            case Write(inode, offset, data):
                content = contents.setdefault(inode, bytearray())
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
            case Truncate(inode, size):
                content = contents.setdefault(inode, bytearray())
                content.extend(bytes(max(0, size - len(content))))
                del content[size:]
            case Link(folder, name, inode, instead_of):
                names[_join(folder, name)] = inode
                if instead_of is not None:
                    names.pop(_join(folder, instead_of), None)
            case Unlink(folder, name):
                names.pop(_join(folder, name), None)
    there = {name for name in names if all(str(parent) in names for parent in list(Path(name).parents)[:-1])}
    folders = frozenset(name for name in there if names[name] is None)
    return State(
        folders, {name: bytes(contents.get(inode, b"")) for name in there if (inode := names[name]) is not None}
    )


def flushed_at(events: Sequence[Event]) -> list[int]:
    """For each event the number of events after which it is certain to be on the disk; more than all if it never is."""
    never = len(events) + 1
    files: dict[int, int] = {}
    folders: dict[str, int] = {}
    found = []
    for i, event in reversed(list(enumerate(events, start=1))):
        match event:
            case SyncFile(inode):
                files[inode] = i
            case SyncFolder(folder):
                folders[folder] = i
        match event:
            case Write(inode) | Truncate(inode):
                found.append(files.get(inode, never))
            case Link(folder) | Unlink(folder):
                found.append(folders.get(folder, never))
            case _:
                found.append(i)
    return found[::-1]


def crash_states(events: Sequence[Event], cut: int, samples: int, seed: int) -> Iterator[State]:
    """States that the disk may be in after a power cut.

    Args:
        events: all events.
        cut: number of events before the power cut.
        samples: number of random states, after those in which all or nothing was lost of contents and of names.
        seed: seed of the random states.

    Yields:
        The states, some of which may be equal.
    """
    done = events[:cut]
    uncertain = [i for i, flushed in enumerate(flushed_at(events)[:cut]) if flushed > cut]
    names = {i for i in uncertain if isinstance(done[i], Link | Unlink)}
    data = set(uncertain) - names
    for lost in (data | names, set(), data, names):
        yield replay([event for i, event in enumerate(done) if i not in lost])
    draws = random.Random(seed)
    for _ in range(samples if uncertain else 0):
        kept: list[Event] = []
        for i, event in enumerate(done):
            if i not in data | names:
                kept.append(event)
            elif draws.random() < 0.5:
                kept.append(_torn(event, draws) if isinstance(event, Write) and draws.random() < 0.3 else event)
        yield replay(kept)
    if done and isinstance(done[-1], Write):
        yield replay([*done[:-1], _torn(done[-1], draws)])


def _torn(write: Write, draws: random.Random) -> Write:
    """The first sectors of a write."""
    sectors = draws.randrange(0, 1 + len(write.data) // SECTOR)
    return write._replace(data=write.data[: SECTOR * sectors])


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
