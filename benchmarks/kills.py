"""Crash test of the index: kill a writer at random moments, resume it, and check that no data is lost or repeated.

    .venv/bin/python benchmarks/kills.py --photographs ../shared/landmarks/train --out benchmarks/results/kills.json

For each of build, precompute, sync, remove, and compact, a process is started, killed with SIGKILL after a random time,
and started again, until it was killed --kills times. Except in build, local features and the kNN graph are stored. In
`pairs` two operations are killed one after the other, on a fresh copy of the index each time.

After each kill, the index must open, `verify` must find no problem, each image must find itself, and the next run must
not describe images that are already in the index. When an operation finishes, the index must contain each file of the
folder exactly once, with the descriptor of its content.

The model is fake (a random descriptor per content, and a small decode per image), because the index is under test. The
tests run the same with few images.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import glam.index
from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index.limits import IndexLimits
from glam.index.storage.schema import CATALOG, NoIndexError, connect
from glam.index.writer import open_writer

DIM = 64
LIMITS = IndexLimits(commit_images=16, save_exact=True)
"""Small commits and saved structures, so that even a small index has many moments to be killed at."""


OPERATIONS = ["build", "precompute", "sync", "remove", "compact", "pairs"]

LONGEST_IN_PAIR = 0.4
"""Seconds after which the first two operations of a pair are killed at the latest (arbitrary)."""


def content_hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def descriptor_of(content: str) -> NDArray[np.float32]:
    """Returns the random descriptor of a content, (DIM,), float32, of unit length."""
    descriptor = np.random.default_rng(int(content, 16)).normal(size=DIM).astype(np.float32)
    return descriptor / np.linalg.norm(descriptor)


@dataclass(frozen=True)
class MadeUpSettings:
    size: int = 64
    scales: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class MadeUpDescribed:
    position: int
    descriptor: NDArray[np.float32]
    width: int
    height: int
    error: None = None


class MadeUpModel:
    """Replaces a model; appends the hash of each described image to a log.

    Args:
        log: path of the log.
    """

    name, fingerprint, dim = "made up", "0" * 16, DIM

    def __init__(self, log: Path) -> None:
        self.log = log

    def settings(self) -> MadeUpSettings:
        return MadeUpSettings()

    def stream(self, items: Iterable[tuple[Any, None]], settings: object) -> Iterator[MadeUpDescribed]:
        with self.log.open("a", buffering=1) as log:
            for position, (data, _) in enumerate(items):
                content = content_hash(data)
                log.write(content + "\n")
                with Image.open(BytesIO(data)) as image:
                    width, height = image.size
                    image.draft("RGB", (64, 64))
                    image.load()
                yield MadeUpDescribed(position, descriptor_of(content), width, height)


def run(operation: str, index: Path, folder: Path, log: Path, started: Connection) -> None:
    """Runs one operation in the process that is killed."""
    model: Any = MadeUpModel(log)
    started.send(None)
    if operation == "build":
        glam.index.build(index, read_folder(folder), model, limits=LIMITS)
    elif operation == "precompute":
        glam.index.precompute(index, local_features=True, knn_graph=True, limits=LIMITS)
    elif operation == "sync":
        glam.index.sync(index, read_folder(folder), lambda: model, limits=LIMITS)
    elif operation == "remove":
        with suppress(GlamError):  # killed after the transaction and before the end: nothing is left to remove
            glam.index.remove(index, ["gone"], limits=LIMITS)
    else:
        glam.index.compact(index, limits=LIMITS)


@dataclass
class Outcome:
    """Result of the trial of one operation.

    Attributes:
        operation: name of the operation.
        images: number of images in the finished index.
        kills: number of kills.
        finished: how often the operation ran to its end.
        seconds_undisturbed: seconds of a run without kills.
        described: number of images described in all runs.
        described_again: number of images described more than once because of kills.
        most_again_after_a_kill: maximum number of images described again after one kill.
        opened_after_kills: how often the index opened after a kill.
        problems: problems found.
    """

    operation: str
    images: int = 0
    kills: int = 0
    finished: int = 0
    seconds_undisturbed: float = 0.0
    described: int = 0
    described_again: int = 0
    most_again_after_a_kill: int = 0
    opened_after_kills: int = 0
    problems: list[str] = field(default_factory=list)


class Trial:
    """Trial of one operation. Each time the operation finishes, index and folder are set up again.

    Args:
        operation: name of the operation.
        work: folder for index and images.
        set_up: function that fills ``work`` with the initial state.
    """

    def __init__(self, operation: str, work: Path, set_up: Callable[[Path], None]) -> None:
        self.outcome = Outcome(operation)
        self.index, self.folder, self.log = work / "i.glam", work / "photographs", work / "log"
        self._work, self._set_up = work, set_up

    def restore(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._set_up(self._work)

    def start(self, operation: str | None = None) -> tuple[Any, Connection]:
        here, there = multiprocessing.Pipe(duplex=False)
        arguments = (operation or self.outcome.operation, self.index, self.folder, self.log, there)
        process = multiprocessing.get_context("forkserver").Process(target=run, args=arguments)
        process.start()
        there.close()
        here.recv()
        return process, here

    def go_on(self, delay: float | None) -> bool:
        """Resumes the operation and kills it after ``delay`` seconds; returns whether it was still running."""
        committed, before = self.committed(), self.described()
        process, pipe = self.start()
        process.join(delay)
        killed = process.is_alive()
        if killed:
            process.kill()
        process.join()
        pipe.close()
        if not killed and process.exitcode:
            self.outcome.problems.append(f"exit code {process.exitcode}")
        now = self.described()[len(before) :]
        again = committed & set(now)
        if again:
            self.outcome.problems.append(f"{len(again)} images of the index described again")
        earlier = len(set(now) & set(before))
        self.outcome.described += len(now)
        self.outcome.described_again += earlier
        self.outcome.most_again_after_a_kill = max(self.outcome.most_again_after_a_kill, earlier)
        return killed

    def described(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def committed(self) -> set[str]:
        """Returns the content hashes of all images in the index; empty if there is no index yet."""
        if not (self.index / CATALOG).exists():
            return set()
        with closing(connect(self.index / CATALOG, "rw")) as connection:
            try:
                return {content for (content,) in connection.execute("SELECT hash FROM images")}
            except sqlite3.OperationalError:
                return set()

    def check(self, expected: dict[str, str] | None) -> None:
        """Opens and verifies the index, and searches for each image.

        Args:
            expected: content hash by path of the finished index; None while the operation is unfinished.
        """
        try:
            with glam.index.open(self.index) as index:
                entries = index.entries(index.image_ids.tolist())
                descriptors = index.descriptors(index.image_ids.tolist())
                hits = [found[0] for found in index.search(descriptors, k=1)] if len(index) else []
                for image_id in index.image_ids.tolist()[:3]:
                    index.local_features(image_id)
                index.neighbors(np.arange(min(3, len(index))))
        except NoIndexError:
            return
        self.outcome.opened_after_kills += expected is None
        with closing(connect(self.index / CATALOG, "rw")) as connection:
            hashes = dict(connection.execute("SELECT id, hash FROM images"))
        for entry, descriptor, hit in zip(entries, descriptors, hits, strict=True):
            if not np.array_equal(descriptor, descriptor_of(hashes[entry.image_id])):
                self.outcome.problems.append(f"{entry.path} has the descriptor of another content")
            if hit.entry != entry:
                self.outcome.problems.append(f"{entry.path}: its nearest image is {hit.path}")
        found = glam.index.verify(self.index)
        self.outcome.problems += [f"{problem.file}: {problem.what}" for problem in found.problems]
        if expected is not None:
            if not found.clean:
                self.outcome.problems.append("finished without checksums")
            if {entry.path: hashes[entry.image_id] for entry in entries} != expected or len(entries) != len(expected):
                self.outcome.problems.append(
                    "finished, but the index does not have each file exactly once with its content"
                )

    def contents(self) -> dict[str, str]:
        """Returns the content hash by path that the finished index must have."""
        files = {image.path: self.folder / image.path for image in read_folder(self.folder).images}
        wanted = (
            files
            if self.outcome.operation not in ("remove", "compact")
            else {path: file for path, file in files.items() if not path.startswith("gone/")}
        )
        return {path: content_hash(file.read_bytes()) for path, file in wanted.items()}

    def kill(self, kills: int, moments: random.Random) -> Outcome:
        """Runs the trial.

        Args:
            kills: number of kills.
            moments: source of the random delays.
        """
        self.restore()
        expected = self.contents()
        self.outcome.images = len(expected)
        process, pipe = self.start()
        began = time.perf_counter()
        process.join()
        self.outcome.seconds_undisturbed = time.perf_counter() - began
        pipe.close()
        self.check(expected)
        self.restore()
        # A long operation is killed many times in one run; a short one runs to its end several times.
        undisturbed = self.outcome.seconds_undisturbed
        longest = max(undisturbed / 8, min(1.2 * undisturbed, 1.0))
        while self.outcome.kills < kills:
            if self.go_on(moments.uniform(0, longest)):
                self.outcome.kills += 1
                self.check(None)
            else:
                self.finish(expected)
                self.restore()
        self.go_on(None)
        self.finish(expected)
        return self.outcome

    def kill_pairs(self, kills: int, moments: random.Random) -> Outcome:
        """Kills two different operations, one after the other, then runs sync to its end; and so on.

        Args:
            kills: number of kills.
            moments: source of the random operations and delays.
        """
        self.restore()
        expected = self.contents()
        self.outcome.images = len(expected)
        while self.outcome.kills < kills:
            self.restore()
            for operation in moments.sample(["sync", "remove", "compact", "precompute"], 2):
                process, pipe = self.start(operation)
                process.join(moments.uniform(0, LONGEST_IN_PAIR))
                self.outcome.kills += process.is_alive()
                process.kill()
                process.join()
                pipe.close()
                self.check(None)
            process, pipe = self.start("sync")
            process.join()
            pipe.close()
            self.finish(expected)
        return self.outcome

    def finish(self, expected: dict[str, str]) -> None:
        self.outcome.finished += 1
        self.check(expected)


def prepare(work: Path, files: list[Path]) -> dict[str, Callable[[Path], None]]:
    """Creates the initial states of the operations; returns the function that sets up each."""
    full, changed = work / "full", work / "changed"
    for i, file in enumerate(files):
        target = full / "photographs" / ("gone" if i % 4 == 0 else f"place {i % 7}") / f"{i:05d}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    model: Any = MadeUpModel(work / "log")
    glam.index.build(full / "i.glam", read_folder(full / "photographs"), model, limits=LIMITS)
    bare = work / "bare"
    shutil.copytree(full, bare)
    glam.index.precompute(full / "i.glam", local_features=True, knn_graph=True, limits=LIMITS)
    shutil.copytree(full, changed)
    change(changed / "photographs")
    less = work / "less"
    shutil.copytree(full, less)
    point_to(less)
    glam.index.remove(less / "i.glam", ["gone"], limits=LIMITS)

    def state(source: Path, *, index: bool = True) -> Callable[[Path], None]:
        def set_up(target: Path) -> None:
            shutil.copytree(source / "photographs", target / "photographs", copy_function=copy)
            if index:
                shutil.copytree(source / "i.glam", target / "i.glam")
                point_to(target)

        return set_up

    return {
        "build": state(full, index=False),
        "precompute": state(bare),
        "sync": state(changed),
        "remove": state(full),
        "compact": state(less),
        "pairs": state(changed),
    }


def copy(source: str, target: str) -> None:
    """Hard-links a file, since a trial never writes to an image."""
    os.link(source, target)


def point_to(work: Path) -> None:
    """Sets the root of a copied index to the images next to it, and updates its checksums."""
    with open_writer(work / "i.glam", limits=LIMITS) as writer:
        config = replace(writer.config, root=str((work / "photographs").resolve()))
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.set_config(config)


def change(folder: Path) -> None:
    """Changes a folder between two syncs: of 20 files, 3 move, 2 change, 2 are deleted, and 4 get an altered copy."""
    for i, file in enumerate(sorted(folder.rglob("*.*"))):
        kind = i % 20
        if kind < 3:
            target = folder / "moved" / file.name
            target.parent.mkdir(exist_ok=True)
            file.rename(target)
        elif kind < 5:
            file.write_bytes(file.read_bytes() + b"changed")
        elif kind < 7:
            file.unlink()
        elif kind < 11:
            file.with_stem(file.stem + "-new").write_bytes(file.read_bytes() + b"new")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photographs", dest="source", type=Path, required=True, help="folder of images, with sub-folders"
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--operations", nargs="+", default=OPERATIONS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file to write the outcomes to")
    options = parser.parse_args()
    multiprocessing.get_context("forkserver").set_forkserver_preload(["glam.index", "glam.datasets.readers", "faiss"])
    collection = read_folder(options.source)
    files = [collection.file(i) for i in range(len(collection))][: options.images]
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        states = prepare(Path(temporary) / "states", files)
        for i, operation in enumerate(options.operations):
            trial = Trial(operation, Path(temporary) / operation, states[operation])
            moments = random.Random(options.seed + i)
            kill = trial.kill_pairs if operation == "pairs" else trial.kill
            outcome = kill(options.kills, moments)
            outcomes.append(outcome)
            print(
                f"{operation}: {outcome.images} images, {outcome.kills} kills, finished {outcome.finished} times, "
                f"up to {outcome.most_again_after_a_kill} images described again per kill, "
                f"{len(outcome.problems)} problems {outcome.problems[:3] or ''}",
                flush=True,
            )
    if options.out:
        text = json.dumps({"arguments": sys.argv[1:], "outcomes": [asdict(o) for o in outcomes]}, indent=2)
        options.out.write_text(text + "\n")
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
