"""The commands over hostile trees: a sample, and that the checks notice what may go wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake import trees_command
from tests.intake.hostile_changes import CHANGES, Disturbance, change
from tests.intake.hostile_tree import GOOD, KINDS, HostileTree, named
from tests.intake.trees_check import command_faults, index_faults
from tests.intake.trees_command import Result, run_command
from tests.test_layout import ROOT

SAMPLE = 9
"""Trees of the sample. `make soak` runs 200."""


@pytest.fixture
def make_tree(tmp_path: Path) -> Iterator[Callable[[object], HostileTree]]:
    """Makes a tree from a seed."""
    trees = []

    def make(seed: object) -> HostileTree:
        folder = tmp_path / f"{len(trees)}"
        folder.mkdir()
        trees.append(HostileTree(folder / "tree", folder / "outside", seed, can_refuse=True))
        return trees[-1]

    yield make
    for tree in trees:
        tree.remove()


def test_commands_do_what_they_can_in_a_sample_of_trees() -> None:
    command = [sys.executable, "-m", "tests.intake.trees", "--trees", str(SAMPLE), "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr[-8_000:] + done.stdout


def state_of(tree: HostileTree) -> dict[str, tuple[int, ...]]:
    """Mode, links, size, and time of each file; names alone where the path is too long."""
    state = {}
    for folder, folders, files, descriptor in os.fwalk(tree.root):
        for name in (*folders, *files):
            found = os.lstat(name, dir_fd=descriptor)
            facts = (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns)
            state[os.path.relpath(f"{folder}/{name}", tree.root)] = facts
    return state


def test_a_tree_depends_on_its_seed_alone(make_tree: Callable[[object], HostileTree]) -> None:
    one, same, other = make_tree(1), make_tree(1), make_tree(2)
    for tree in (one, same, other):
        tree.grow(12)
        tree.note_indexed()
        change(tree, 6)
    assert one.expected == same.expected
    assert state_of(one).keys() == state_of(same).keys()
    assert one.expected.keys() != other.expected.keys()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_adds_something(kind: Any, make_tree: Callable[[object], HostileTree]) -> None:
    tree = make_tree(kind.__name__)
    before = state_of(tree)
    try:
        kind(tree)
    except PermissionError as error:
        pytest.skip(f"this system cannot make it: {error}")
    assert state_of(tree) != before


@pytest.mark.parametrize("kind", CHANGES, ids=lambda kind: kind.__name__)
def test_each_change_changes_something(kind: Any, make_tree: Callable[[object], HostileTree]) -> None:
    tree = make_tree(kind.__name__)
    folder = tree.add_folder("album", good=3)
    tree.write("broken.jpg", b"", named("broken.jpg"))
    tree.write("refused.jpg", b"", named("refused.jpg", refused=True))
    tree.note_indexed()
    before = state_of(tree)
    path = sorted(tree.below(folder))[0]
    tree.indexed.discard(path)
    kind(tree, path)
    assert state_of(tree) != before


def result(code: int | None = 0, out: str = "{}", err: str = "") -> Result:
    return Result(("index", "sync"), code, out, err, 1.0)


def test_what_a_run_gets_wrong_is_found(make_tree: Callable[[object], HostileTree]) -> None:
    tree = make_tree("checks")
    good = set(tree.expected)
    tree.write("bad\n.jpg", b"", named("bad\n.jpg"))
    assert list(index_faults(tree, good, result(out='{"unreadable": [["bad\\n.jpg", "an empty file"]]}'))) == []
    assert list(index_faults(tree, good, result(err="  bad\\n.jpg: an empty file"))) == []
    missing = sorted(good)[0]
    assert list(index_faults(tree, good - {missing}, result(err="bad\\n.jpg"))) == [f"{missing!r} is missing"]
    assert list(index_faults(tree, good, result())) == ["'bad\\n.jpg' is not named"]
    assert list(index_faults(tree, {*good, "bad\n.jpg"}, result(err="bad\\n.jpg"))) == [
        "'bad\\n.jpg' is indexed, though it must not be"
    ]
    assert list(index_faults(tree, {*good, "x.jpg"}, result(err="bad\\n.jpg"))) == [
        "indexed, though they must not be: ['x.jpg']"
    ]
    assert "exit code 1, not 0" in next(index_faults(tree, good, result(1, err="bad\\n.jpg")))
    tree.write("refused.jpg", b"", named("refused.jpg", refused=True))
    assert "exit code 0, not 1" in next(index_faults(tree, good, result(0, err="bad\\n.jpg refused.jpg")))


def test_paths_that_move_may_be_anything(make_tree: Callable[[object], HostileTree]) -> None:
    tree = make_tree("moving")
    good = set(tree.expected)
    disturbance = Disturbance(tree, 3)
    for _ in range(200):
        disturbance.step()
    assert list(index_faults(tree, {*good, *disturbance.paths}, result())) == []
    assert list(index_faults(tree, good, result())) == []
    disturbance.settle()
    settled = {path for path, expected in tree.expected.items() if expected == GOOD}
    assert list(index_faults(tree, settled, result(err="\n".join(disturbance.paths)))) == []
    assert all(os.path.lexists(tree.root / path) for path in tree.expected)


def test_hangs_crashes_and_tracebacks_of_commands_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(action: Callable[[], object]) -> list[str]:
        monkeypatch.setattr("glam.app.cli.main.main", action)
        return list(command_faults(run_command(["--version"], seconds=1)))

    monkeypatch.setattr(trees_command, "SPARE_MEMORY", 1 << 40)
    assert command(lambda: print("done")) == []
    assert command(lambda: sys.exit(1)) == []
    assert command(lambda: sys.exit(2)) == ["exit code 2"]
    assert command(lambda: time.sleep(60)) == ["did not end within 1 s"]
    assert command(lambda: os.kill(os.getpid(), signal.SIGTERM)) == ["exit code -15"]
    assert command(lambda: 1 / 0) == ["Traceback (most recent call last)"]
