"""Runs the commands over hostile trees, and checks that each does what it can and names what it cannot.

    python -m tests.intake.trees --trees 200 --seed 0 --workers 2
    python -m tests.intake.trees --first 17 --trees 1 --keep /tmp/tree      again, and keep the folders

Each tree is built, changed, and synced while files change, then synced at rest and verified. One in `TRAIN_EVERY` is
also searched, described, evaluated, prepared, and trained on. What changes while a command runs depends on its speed;
all else depends on the seed alone. Root reads files without permissions, so this runs itself without that right.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.intake.hostile_changes import Disturbance, change
from tests.intake.hostile_content import draw_image
from tests.intake.hostile_tree import LANDMARKS, HostileTree
from tests.intake.trees_check import command_faults, index_faults, naming_faults
from tests.intake.trees_command import Result, load_commands, run_command
from tests.soak import add_trial_options, keep_or_remove

SECONDS = 60.0
"""Time after which a command counts as hanging; they take one or two seconds."""

TRAIN_EVERY = 8
"""One in so many trees is also trained on and so on, which takes several seconds."""

FOLLOW_EVERY = 4
"""In one of so many trees links to folders are followed."""

KINDS_PER_TREE, CHANGES_PER_TREE, MOVING_PER_TREE = 10, 6, 4
"""Things of a tree, changes between two runs, and files that change during a run; arbitrary."""

WITHOUT_RIGHTS = "GLAM_TREES_WITHOUT_RIGHTS"
"""Environment variable of a process that setpriv started."""

TRAINING = {
    "model.backbone": "resnet10t",
    "model.pretrained": "false",
    "model.dim": "8",
    "model.attention.reduction": "8",
    "data.size": "32",
    "data.val_size": "32",
    "data.batch_size": "4",
    "data.workers": "0",
    "data.max_unreadable": "1",
    "trainer.max_epochs": "1",
    "trainer.accelerator": "cpu",
}
"""Options of a training that takes seconds."""


class Report(NamedTuple):
    """What was found in one tree.

    Attributes:
        faults: one text per fault.
        left_out: kinds that were left out, with the reason.
        commands: number of commands that were run.
    """

    faults: list[str]
    left_out: dict[str, str]
    commands: int


class TreeRun:
    """Runs the commands over one tree.

    Args:
        folder: new folder for the tree and the outputs.
        number: number of the tree.
        seed: seed of all trees.
        model: model file.
        can_refuse: whether files without permissions are refused.

    Attributes:
        faults: what was wrong, one text per fault.
        commands: number of commands that were run.
    """

    def __init__(self, folder: Path, number: int, seed: int, model: Path, can_refuse: bool) -> None:
        self.folder = folder
        self.number = number
        self.described_by = ("--model", str(model))
        self.index = folder / "index.glam"
        follow = number % FOLLOW_EVERY == 0
        self.tree = HostileTree(
            folder / "tree", folder / "outside", f"{seed}:{number}", can_refuse=can_refuse, follow_links=follow
        )
        self.faults: list[str] = []
        self.commands = 0

    def run(self) -> None:
        """Runs all commands."""
        root, index = str(self.tree.root), str(self.index)
        self.tree.grow(KINDS_PER_TREE)
        follow = ["--follow-links"] if self.tree.follow_links else []
        self._update("build", index, root, "--size", "32", *follow)
        change(self.tree, CHANGES_PER_TREE)
        self._update("sync", index, root)
        self._update("sync", index, disturbed=False)
        verified = self._run("index", "verify", index, "--sample", "0", "--json")
        self._note(verified, [] if verified.code == 0 else [f"exit code {verified.code}, not 0"])
        if self.number % TRAIN_EVERY == 0:
            self._use_in_other_ways()

    def _update(self, command: str, *arguments: str, disturbed: bool = True) -> None:
        """Builds or syncs the index, and checks it."""
        disturbance = Disturbance(self.tree, MOVING_PER_TREE) if disturbed else None
        line = ("index", command, *arguments, *self.described_by, "--json")
        result = self._run(*line, disturbance=disturbance)
        self._note(result, index_faults(self.tree, self._indexed(), result))
        self.tree.note_indexed()
        if disturbance is not None:
            disturbance.settle()

    def _use_in_other_ways(self) -> None:
        """Searches, describes, evaluates, and so on: whatever cannot be read, landmarks with images are left."""
        root = str(self.tree.root)
        for path in self.tree.broken_files():
            result = self._run("search", str(self.index), str(self.tree.root / path), *self.described_by)
            self._note(result, [] if result.code == 1 and result.err else [f"exit code {result.code} for {path!r}"])
        options = (*self.described_by, "--size", "32", "--json")
        outputs = (
            self._work("describe", root, "--out", str(self.folder / "described.safetensors"), *options),
            self._work("eval", "folder", root, *options),
            self._work("data", "prepare", root, str(self.folder / "prepared"), "--size", "32", "--workers", "1"),
        )
        for result in outputs:
            self._note(result, naming_faults(self.tree, result, of_index=False))
        folders = {
            "data.train": root,
            "data.val": str(_make_landmarks(self.folder / "val")),
            "out": str(self.folder / "run"),
        }
        self._work("train", *(f"--{name}={value}" for name, value in {**folders, **TRAINING}.items()))

    def _work(self, *arguments: str) -> Result:
        """Runs a command that reads the tree, and checks that it does its work."""
        result = self._run(*arguments)
        refused = any(expected.refused for expected in self.tree.at_rest().values()) or self._has_refused_file()
        if result.code != 0 and not (refused and result.err):
            self._note(result, [f"exit code {result.code}"])
        return result

    def _has_refused_file(self) -> bool:
        """Whether the system refuses to open a file, which an index that knows it need not open again."""
        files = [self.tree.root / path for path in self.tree.at_rest()]
        with suppress(PermissionError):
            return any(file.is_file() and not os.access(file, os.R_OK) for file in files)
        return True

    def _run(self, *arguments: str, disturbance: Disturbance | None = None) -> Result:
        """Runs a command, and checks what holds for every command."""

        def disturb(pid: int) -> None:
            if disturbance is not None:
                disturbance.step()

        result = run_command(arguments, SECONDS, disturb)
        self.commands += 1
        self._note(result, command_faults(result))
        return result

    def _note(self, result: Result, faults: Iterable[str]) -> None:
        command = " ".join(result.arguments[:2])
        found = [f"tree {self.number}: glam {command}: {fault}" for fault in faults]
        if found:
            self.faults.append("\n".join([*found, *(f"    {line}" for line in result.err.splitlines()[-40:])]))

    def _indexed(self) -> set[str]:
        """The paths in the index; none if there is no index."""
        from glam.index.storage.migrations import open_catalog
        from glam.index.storage.schema import CATALOG

        if not (self.index / CATALOG).exists():
            return set()
        catalog = open_catalog(self.index)
        try:
            return {image.facts.path for image in catalog.stored_images() if image.present}
        finally:
            catalog.close()


def run_tree(number: int, *, seed: int, model: Path, can_refuse: bool, keep: Path | None = None) -> Report:
    """Runs the commands over one tree.

    Args:
        number: number of the tree.
        seed: seed of all trees.
        model: model file.
        can_refuse: whether files without permissions are refused.
        keep: folder to keep the tree and its index in, if something is wrong.
    """
    folder = Path(tempfile.mkdtemp(prefix="tree-"))
    run = TreeRun(folder, number, seed, model, can_refuse)
    try:
        run.run()
    finally:
        kept_as = keep / f"{seed}-{number}" if run.faults and keep is not None else None
        if kept_as is None:
            run.tree.remove()
        keep_or_remove(folder, kept_as)
    return Report(run.faults, run.tree.left_out, run.commands)


def write_model(path: Path) -> None:
    """Writes a model file with a tiny network of random weights."""
    import torch

    from glam.model_file import ModelHeader, save
    from glam.network import Architecture, DescriptorNetwork

    torch.manual_seed(0)
    architecture = Architecture("resnet10t", dim=8, attention={"name": "glam", "reduction": 8})
    save(path, DescriptorNetwork(architecture, pretrained=False).eval(), ModelHeader(architecture, 32))


def refuses() -> bool:
    """Whether the system refuses to open a file without permissions to this process."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).chmod(0)
        return not os.access(file.name, os.R_OK)


def drop_rights() -> None:
    """Starts this program again without the rights to read everything, if it has them and setpriv is installed."""
    setpriv = shutil.which("setpriv")
    if refuses() or setpriv is None or WITHOUT_RIGHTS in os.environ:
        return
    without = "-dac_override,-dac_read_search"
    command = [
        setpriv,
        f"--bounding-set={without}",
        f"--inh-caps={without}",
        sys.executable,
        "-m",
        "tests.intake.trees",
    ]
    os.execve(setpriv, [*command, *sys.argv[1:]], {**os.environ, WITHOUT_RIGHTS: "1"})


def _make_landmarks(folder: Path) -> Path:
    """Makes a folder of two landmarks with good images."""
    rng = random.Random(0)
    for landmark in LANDMARKS:
        (folder / landmark).mkdir(parents=True)
        for i in range(3):
            (folder / landmark / f"{i}.jpg").write_bytes(draw_image(rng))
    return folder


def main() -> int:
    """Runs the trees and prints a summary; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=200, help="number of trees")
    add_trial_options(parser, "tree")
    parser.add_argument("--keep", type=Path, help="folder for trees in which something is wrong")
    options = parser.parse_args()
    drop_rights()
    began = time.monotonic()
    load_commands()
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.safetensors"
        write_model(model)
        run = partial(run_tree, seed=options.seed, model=model, can_refuse=refuses(), keep=options.keep)
        with multiprocessing.get_context("fork").Pool(options.workers) as pool:
            for report in pool.imap_unordered(run, range(options.first, options.first + options.trees)):
                reports.append(report)
                for fault in report.faults:
                    print(fault, file=sys.stderr, flush=True)
    for kind, reason in {kind: reason for report in reports for kind, reason in report.left_out.items()}.items():
        print(f"left out: {kind}: {reason}")
    faults = sum(len(report.faults) for report in reports)
    commands = sum(report.commands for report in reports)
    seconds = time.monotonic() - began
    print(f"{options.trees} trees, {commands} commands in {seconds:.0f} s: {faults} commands with faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
