"""Fuzz target of image reading: mutants of small image files, each read in a process that may crash or hang.

    python -m tests.intake.fuzz --count 50000 --seed 0 --workers 2 --save faults
    python -m tests.intake.fuzz --first 1234 --count 1            reproduce mutant 1234

    Mutator --mutants--> workers: check_image --faults--> fuzz --> one line per distinct fault, exit code 1

A worker takes every n-th mutant and notes in shared memory the one that it reads. If it crashes or hangs, the fault is
that mutant's, and a new worker goes on after it.
"""

import argparse
import faulthandler
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from tests.intake.fuzz_check import check_image
from tests.intake.fuzz_mutators import Mutator
from tests.intake.fuzz_seeds import format_of, seed_files
from tests.soak import add_trial_options

SECONDS = 20.0
"""Longest time for one file."""

MAX_PIXELS, LARGE_MAX_PIXELS = 4_000_000, 64_000_000
"""Pixels up to which mutants are decoded, in most of them and in one of `LARGE_EVERY`: large ones take a second."""

LARGE_EVERY = 50

SPARE_MEMORY = 4 << 30
"""Address space of a worker beyond what it has at its start, in bytes, so that no mutant exhausts the machine."""

SAVED_PER_FAULT = 3
"""Mutants that are saved per distinct fault; arbitrary."""

STATE = struct.Struct("qd")
"""Number of the mutant that a worker reads, and the time at which it began, from `time.monotonic`."""

Check = Callable[[int], None]
"""Reads the mutant of a number; raises what counts as a fault."""


@dataclass(frozen=True)
class Failure:
    """A mutant that failed.

    Attributes:
        number: number of the mutant.
        kind: what distinct faults are told apart by, such as the exception and the line that raised it.
        detail: traceback, or what the crashed worker wrote.
    """

    number: int
    kind: str
    detail: str = ""


@dataclass
class Worker:
    """A process that checks every n-th mutant.

    Attributes:
        pid: its process id.
        failures: end of the pipe from which its `Failure` records come.
        state: shared memory with a `STATE`.
        errors: file that it writes its standard error to.
        gone: whether it has ended.
    """

    pid: int
    failures: Connection
    state: mmap.mmap
    errors: int
    gone: bool = False

    def current(self) -> tuple[int, float]:
        """Number of the mutant that it reads, and for how many seconds."""
        number, began = STATE.unpack(self.state[:])
        return number, time.monotonic() - began


@dataclass
class Fuzzer:
    """Checks mutants in worker processes.

    Attributes:
        check: checks the mutant of a number.
        workers: number of processes.
        seconds: longest time for one mutant; after it the worker is killed.
        spare_memory: address space that a worker may add, in bytes.
    """

    check: Check
    workers: int = 2
    seconds: float = SECONDS
    spare_memory: int = SPARE_MEMORY
    _running: dict[int, Worker] = field(default_factory=dict)

    def failures(self, first: int, count: int) -> Iterator[Failure]:
        """Yields the mutants that fail, as they are found.

        Args:
            first: number of the first mutant.
            count: number of mutants.
        """
        end = first + count
        self._running = {lane: self._fork(first + lane, end) for lane in range(min(self.workers, count))}
        try:
            while self._running:
                yield from self._step(end)
        finally:
            for worker in self._running.values():
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)

    def _step(self, end: int) -> Iterator[Failure]:
        """Waits for failures, and replaces workers that crash or hang."""
        ready = wait([worker.failures for worker in self._running.values()], timeout=0.2)
        for lane, worker in list(self._running.items()):
            if worker.failures in ready:
                try:
                    yield worker.failures.recv()
                    continue
                except EOFError:
                    reason = _end(worker)
            elif worker.current()[1] > self.seconds:
                os.kill(worker.pid, signal.SIGKILL)
                _end(worker)
                reason = f"more than {self.seconds:.0f} s"
            else:
                continue
            del self._running[lane]
            if not reason:
                continue
            number, _ = worker.current()
            yield Failure(number, reason, _tail(worker.errors))
            if number + self.workers < end:
                self._running[lane] = self._fork(number + self.workers, end)

    def _fork(self, first: int, end: int) -> Worker:
        """Starts a worker on every n-th mutant from ``first`` on."""
        receiver, sender = Pipe(duplex=False)
        state = mmap.mmap(-1, STATE.size)
        state[:] = STATE.pack(first, time.monotonic())
        errors = os.memfd_create("errors") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self._work(range(first, end, self.workers), sender, state, errors)
                code = 0
            finally:
                os._exit(code)
        sender.close()
        return Worker(pid, receiver, state, errors)

    def _work(self, numbers: range, sender: Connection, state: mmap.mmap, errors: int) -> None:
        """Checks mutants, in the worker."""
        os.dup2(errors, 2)
        faulthandler.enable(file=errors)
        warnings.simplefilter("ignore")  # decoders warn of damage, which is what a mutant is
        _limit_memory(self.spare_memory)
        for number in numbers:
            state[:] = STATE.pack(number, time.monotonic())
            os.ftruncate(errors, 0)
            try:
                self.check(number)
            except Exception as error:  # noqa: BLE001 - a decoder can raise anything, and that is the fault
                sender.send(Failure(number, _kind(error), "".join(traceback.format_exception(error))))


def _end(worker: Worker) -> str:
    """Waits for a worker that ended, and says what ended it; "" if it did all its work."""
    _, status = os.waitpid(worker.pid, 0)
    worker.failures.close()
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"the process ended with {code}" if code else ""


def _kind(error: Exception) -> str:
    """The type of an exception and where it was raised, or the first line of a message of the check itself."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    if file.parent == Path(__file__).parent:
        return f"{type(error).__name__}: {_without_numbers(str(error).splitlines()[0])}"
    return f"{type(error).__name__} at {'/'.join(file.parts[-2:])}:{frame.lineno} in {frame.name}"


def _without_numbers(text: str) -> str:
    return "".join("#" if character.isdigit() else character for character in text)


def _tail(errors: int, size: int = 4_000) -> str:
    """The last bytes that a worker wrote to its standard error."""
    with suppress(OSError):
        length = os.fstat(errors).st_size
        return os.pread(errors, size, max(0, length - size)).decode(errors="replace")
    return ""


def _limit_memory(spare: int) -> None:
    """Limits the address space of this process to what it has and ``spare`` bytes; no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + spare
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def max_pixels_of(number: int) -> int:
    """Pixels up to which a mutant is decoded."""
    return LARGE_MAX_PIXELS if number % LARGE_EVERY == 0 else MAX_PIXELS


def fuzz_images(first: int, count: int, seed: int, workers: int, save: Path | None = None) -> dict[str, list[Failure]]:
    """Reads mutants of image files.

    Args:
        first: number of the first mutant.
        count: number of mutants.
        seed: seed of the mutants.
        workers: number of processes.
        save: folder for some mutants of each fault; None to save none.

    Returns:
        Failures by format and kind; empty if all is well.
    """
    mutator = Mutator(seed_files(), seed)
    fuzzer = Fuzzer(lambda number: check_image(mutator.mutant(number)[1], max_pixels_of(number)), workers)
    found: dict[str, list[Failure]] = defaultdict(list)
    for failure in fuzzer.failures(first, count):
        name, content = mutator.mutant(failure.number)
        same = found[f"{format_of(name)}: {failure.kind}"]
        same.append(failure)
        if len(same) == 1:
            print(f"mutant {failure.number} of {name}: {failure.kind}\n{failure.detail}", file=sys.stderr, flush=True)
        if save is not None and len(same) <= SAVED_PER_FAULT:
            save.mkdir(parents=True, exist_ok=True)
            (save / f"{seed}-{failure.number}-{name.replace('/', '-')}").write_bytes(content)
    return dict(found)


def main() -> int:
    """Runs the fuzz target and prints a summary; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, help="number of mutants")
    add_trial_options(parser, "mutant")
    parser.add_argument("--save", type=Path, help="folder for mutants that fail")
    options = parser.parse_args()
    began = time.monotonic()
    found = fuzz_images(options.first, options.count, options.seed, options.workers, options.save)
    seconds = time.monotonic() - began
    for kind, failures in sorted(found.items(), key=lambda item: -len(item[1])):
        print(f"{len(failures):6,} {kind}; first: mutant {failures[0].number}")
    total = sum(map(len, found.values()))
    print(
        f"{options.count:,} mutants in {seconds:.0f} s ({options.count / seconds:.0f} per second): "
        f"{total:,} failed in {len(found):,} distinct ways"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
