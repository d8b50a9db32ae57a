"""Kinds of interruption: each ends a run in its way, at a moment that the caller chooses."""

import os
import random
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from glam.datasets.views import Views

LARGEST_FILE = 600_000
"""Bytes that a full disk still takes of one file, at most; a checkpoint of the small run has several million."""


LEAST_BATCH = 90_000
"""Bytes, less than any batch of the small run takes: two float32 images of 3 x 64 x 64 take 98,304."""


@dataclass(frozen=True)
class Kind:
    """A kind of interruption.

    Attributes:
        name: name in the report.
        codes: exit codes of an interrupted run.
        strike: called once at the moment with the process of the run; None if nothing is done from outside.
        options: further arguments of `glam train` for a moment in seconds after the start.
        patch: context around the start of the run, for a moment as a share of the run.
        workers: number of processes that read images; None for any.
        damage: called after the end with the folder of the run.
        has_model: whether the interrupted run leaves a model of its own.
    """

    name: str
    codes: tuple[int, ...]
    strike: Callable[[int, random.Random], None] | None = None
    options: Callable[[float], Sequence[str]] = field(default=lambda seconds: ())
    patch: Callable[[float], Any] | None = None
    workers: int | None = None
    damage: Callable[[Path, random.Random], None] | None = None
    has_model: bool = False


def children(pid: int) -> list[int]:
    """The processes that a process has started, such as the workers of a run."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _send(number: signal.Signals) -> Callable[[int, random.Random], None]:
    return lambda pid, rng: os.kill(pid, number)


def _press_ctrl_c(pid: int, rng: random.Random) -> None:
    """Sends SIGINT to the run and its workers, as a terminal does."""
    for process in (*children(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGINT)


def _kill_worker(pid: int, rng: random.Random) -> None:
    """Kills a worker, as a system without memory does."""
    with suppress(ProcessLookupError):
        os.kill(rng.choice(children(pid)), signal.SIGKILL)


def _fill_disk(pid: int, rng: random.Random) -> None:
    """Lets files of the run grow to a random size only."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (rng.randrange(LARGEST_FILE), resource.RLIM_INFINITY))


def _fill_shared_memory(pid: int, rng: random.Random) -> None:
    """Lets the workers take less shared memory than a batch needs."""
    for worker in children(pid):
        with suppress(ProcessLookupError):
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (rng.randrange(LEAST_BATCH), resource.RLIM_INFINITY))


def _cut(out: Path, rng: random.Random) -> None:
    """Cuts ``last.ckpt`` at a random byte."""
    file = out / "checkpoints" / "last.ckpt"
    if file.exists():
        os.truncate(file, rng.randrange(file.stat().st_size))


def _max_time(seconds: float) -> Sequence[str]:
    """The option that ends a training after some seconds, of which it takes a natural number."""
    return "--trainer.max_time", f"00:00:00:{max(1, round(seconds / 2)):02}"  # the rest is for reading and writing


@contextmanager
def _failing_views(share: float) -> Iterator[None]:
    """Makes an image raise an exception that is no `ImageError`, after a share of the images of the small run."""
    usual, after = Views.__getitem__, int(share * 96)
    count = 0

    def fail(views: Views, draw: Any) -> Any:
        nonlocal count
        count += 1
        if count > after:
            raise RuntimeError("an exception in a worker\nwith a second line")
        return usual(views, draw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Views, "__getitem__", fail)
        yield


KINDS = (
    Kind("SIGTERM", (143,), _send(signal.SIGTERM)),
    Kind("Ctrl-C", (130,), _press_ctrl_c),
    Kind("SIGKILL", (-signal.SIGKILL,), _send(signal.SIGKILL)),
    Kind("max_time", (0,), options=_max_time, has_model=True),
    Kind("exception in a worker", (1,), patch=_failing_views),
    Kind("killed worker", (1,), _kill_worker, workers=1),
    Kind("full disk", (1,), _fill_disk),
    Kind("full shared memory", (1,), _fill_shared_memory, workers=1),
    Kind("cut checkpoint", (-signal.SIGKILL,), _send(signal.SIGKILL), damage=_cut),
)
"""All kinds of interruption."""
