"""An index survives a power cut at any moment, and nothing that a writer does escapes the recorder."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glam.atomic_file import atomic_write

from .disk import Link, SyncFile, SyncFolder, Write, crash_states
from .recorder import Recorder
from .sqlite_calls import is_available
from .trial import run_trials

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the recorder finds the path of a descriptor in /proc"),
    pytest.mark.skipif(not is_available(), reason="the library of the module sqlite3 does not export its VFS"),
]

MEMORY = Path("/dev/shm")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder in memory, where a flush takes no time."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def test_an_index_is_as_before_or_as_after_a_power_cut(disk: Path, content_model: Any) -> None:
    """At each event of build, precompute, add, sync, remove, compact, a moved folder, and relocate.

    `python -m tests.power_cut` tries more states at each.
    """
    outcomes = list(run_trials(disk, content_model, every=1, samples=1, resume_every=25))
    assert {outcome.operation: outcome.faults for outcome in outcomes if outcome.faults} == {}
    assert len(outcomes) == 8
    assert all(outcome.states > 30 and outcome.resumed for outcome in outcomes)


def test_what_was_not_flushed_may_be_lost_torn_or_reordered(disk: Path) -> None:
    recorder = Recorder(disk)
    with recorder.recording():
        (disk / "a").write_bytes(b"a" * 1024)
        with atomic_write(disk / "b") as partial:
            partial.write_bytes(b"b")
    states = [state.files for state in crash_states(recorder.events, len(recorder.events), samples=1000, seed=0)]
    for expected in (
        {},
        {"a": b"a" * 1024, "b": b"b"},
        {"b": b"b"},
        {"a": b"", "b": b""},
        {"a": b"a" * 512, "b": b"b"},
    ):
        assert expected in states


def test_what_was_flushed_is_certain(disk: Path) -> None:
    recorder = Recorder(disk)
    with recorder.recording(), atomic_write(disk / "new" / "b", on_disk=True) as partial:
        partial.write_bytes(b"b")
    kinds = [type(event) for event in recorder.events[recorder.begin :]]
    assert kinds == [Link, SyncFolder, Link, Write, SyncFile, Link, SyncFolder]
    states = crash_states(recorder.events, len(recorder.events), samples=10, seed=0)
    assert all(state.files == {"new/b": b"b"} for state in states)


def test_a_change_that_no_observed_call_explains_is_noticed(disk: Path) -> None:
    (disk / "a").write_bytes(b"a")
    recorder = Recorder(disk)
    with recorder.recording():
        subprocess.run(["mv", disk / "a", disk / "b"], check=True)
    assert recorder.missed == ["a vanished"]
