"""Power cuts at every event of every operation, and what the index must be after each.

Recorder.events --each cut--> crash_states --> a folder --> read_content: as before, or as after
                                                        --> verify: no problem
                                                        --> the operation again: as after
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .disk import Event, Link, State, SyncFile, SyncFolder, Unlink, crash_states, flushed_at, replay
from .recorder import Recorder
from .scenario import OPERATIONS, Content, Operation, problems, read_content, verified

JOURNAL = "catalogue.sqlite-journal"
"""SQLite commits by deleting this file."""


@dataclass(frozen=True)
class Outcome:
    """The trial of one operation.

    Attributes:
        operation: its name.
        events: number of writes, changes of names, and flushes.
        states: number of different states of the disk that were tried.
        resumed: number of states in which the operation was run again.
        faults: what was wrong, and after how many events.
    """

    operation: str
    events: int
    states: int
    resumed: int
    faults: tuple[str, ...]


def run_trials(work: Path, model: Any, *, every: int, samples: int, resume_every: int) -> Iterator[Outcome]:
    """Tries all operations.

    Args:
        work: empty folder.
        model: model that describes the images.
        every: tries each ``every``-th cut.
        samples: random states per cut.
        resume_every: runs the operation again in each such state.

    Yields:
        The outcome of each operation.
    """
    disk, photos = work / "disk", work / "photos"
    disk.mkdir()
    for operation in OPERATIONS:
        operation.prepare(photos)
        before = read_content(disk / "i.glam")
        recorder = record(operation, disk, photos, model)
        faults = [f"not observed: {what}" for what in recorder.missed]
        if replay(recorder.events) != state_of(disk):
            faults.append("the events do not explain the folder")
        trial = _Trial(operation, work, model, recorder, before)
        faults += trial.cuts(every, samples, resume_every)
        yield Outcome(
            operation.name, len(recorder.events) - recorder.begin, len(trial.tried), trial.resumed, tuple(faults)
        )


def record(operation: Operation, disk: Path, photos: Path, model: Any) -> Recorder:
    """Runs an operation on the index in a folder, and records what it does there."""
    recorder = Recorder(disk)
    with recorder.recording():
        operation.run(disk / "i.glam", photos, model)
    return recorder


def counts(work: Path, model: Any) -> Counter[str]:
    """Number of observed calls of each kind in all operations, to compare with ``strace``.

    Args:
        work: empty folder.
        model: model that describes the images.
    """
    (work / "disk").mkdir()
    found: Counter[str] = Counter()
    for operation in OPERATIONS:
        operation.prepare(work / "photos")
        recorder = record(operation, work / "disk", work / "photos", model)
        found.update(call_of(event) for event in recorder.events[recorder.begin :])
        found["write by SQLite"] += recorder.sqlite_writes
    return found


def call_of(event: Event) -> str:
    """The call that caused an event."""
    match event:
        case SyncFile() | SyncFolder():
            return "fsync"
        case Link(inode=None):
            return "mkdir"
        case Link(instead_of=None):
            return "create"
        case Link():
            return "rename"
    return type(event).__name__.lower()


def state_of(root: Path) -> State:
    """The state of a real folder."""
    paths = sorted(root.rglob("*"))
    return State(
        frozenset(path.relative_to(root).as_posix() for path in paths if path.is_dir()),
        {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()},
    )


class _Trial:
    """The power cuts of one recorded operation."""

    def __init__(
        self, operation: Operation, work: Path, model: Any, recorder: Recorder, before: Content | None
    ) -> None:
        self._operation, self._work, self._model = operation, work, model
        self._events: list[Event] = recorder.events
        self._begin = recorder.begin
        self._commits = [i for i in range(self._begin, len(self._events)) if self._is_commit(self._events[i])]
        self._contents = [before, *(self._content(replay(self._events[: i + 1])) for i in self._commits)]
        self._after = read_content(work / "disk" / "i.glam")
        self.tried: set[object] = set()
        self.resumed = 0

    def cuts(self, every: int, samples: int, resume_every: int) -> Iterator[str]:
        """See `run_trials`; yields the faults."""
        if self._contents[-1] != self._after:
            yield "the last commit is not the end"
        flushed = flushed_at(self._events)
        for cut in range(self._begin, len(self._events) + 1, every):
            committed = sum(flushed[i] <= cut for i in self._commits)
            allowed = self._contents[committed : committed + 2]
            for state in crash_states(self._events, cut, samples, seed=cut):
                key = committed, state.key
                if key in self.tried:
                    continue
                self.tried.add(key)
                for fault in self._faults(state, allowed, resume=len(self.tried) % resume_every == 0):
                    yield f"after {cut - self._begin} events: {fault}"

    def _faults(self, state: State, allowed: list[Content | None], *, resume: bool) -> Iterator[str]:
        try:
            if self._content(state) not in allowed:
                yield "the index is neither as before nor as after"
            index = self._index(state)
            yield from problems(index)
            if resume:
                self.resumed += 1
                self._operation.run(index, self._work / "photos", self._model)
                if read_content(index) != self._after or not verified(index):
                    yield "the operation did not complete when it was run again"
        except Exception as error:  # noqa: BLE001  any exception is a fault
            yield f"{type(error).__name__}: {error}"

    def _content(self, state: State) -> Content | None:
        return read_content(self._index(state))

    def _index(self, state: State) -> Path:
        root = self._work / "cut"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        state.write(root)
        return root / "i.glam"

    def _is_commit(self, event: Event) -> bool:
        return isinstance(event, Unlink) and event.name == JOURNAL
