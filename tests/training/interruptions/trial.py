"""One trial: a run is interrupted, resumed by the line that it printed, and compared with the unbroken one."""

import random
import re
import shlex
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.intake.trees_check import TRACES
from tests.intake.trees_command import Result, run_command
from tests.soak import keep_or_remove
from tests.training.interruptions.kinds import KINDS, Kind, children
from tests.training.interruptions.small_run import Ending, model_file, read_ending, train_line

SECONDS = 120.0
"""Time after which a run counts as hanging; it takes several seconds."""

RESUME = re.compile(r"resume with: glam (.*)$", re.MULTILINE)
AGAIN = "run the same command to start again"


@dataclass(frozen=True)
class Unbroken:
    """The run that was not interrupted.

    Attributes:
        data: folder of its images.
        ending: what it left.
        seconds: time that it took.
    """

    data: Path
    ending: Ending
    seconds: float


@dataclass(frozen=True)
class Report:
    """What a trial found.

    Attributes:
        kind: name of the kind of interruption.
        moments: exit code and moment of each interruption.
        interruptions: number of runs that were interrupted before their end.
        faults: one text per fault.
    """

    kind: str
    moments: list[str]
    interruptions: int
    faults: list[str]


class Trial:
    """Interrupts a run and resumes it. A run whose only checkpoint was cut has to be refused in one sentence.

    Args:
        folder: new folder for the run.
        kind: how it is interrupted.
        rng: chooses all else.
        unbroken: the run to compare with.
    """

    def __init__(self, folder: Path, kind: Kind, rng: random.Random, unbroken: Unbroken) -> None:
        self.out, self.kind, self.rng, self.unbroken = folder / "run", kind, rng, unbroken
        self.moments: list[str] = []
        self.interruptions = 0
        self.faults: list[str] = []
        workers = rng.randrange(2) if kind.workers is None else kind.workers
        self.line = train_line(unbroken.data, self.out, workers, rng.choice((1, 3, 8, 1000)))

    def run(self) -> None:
        """Interrupts the run once or twice, resumes it, and compares its end."""
        line: Sequence[str] = self.line
        for _ in range(self.rng.choice((1, 1, 2))):
            result = self._interrupt(line)
            line = self._next_line(line, result)
            if self._is_lost():
                break
        result = run_command(line, SECONDS)
        self._note(result, self._last_faults(result))

    def _interrupt(self, line: Sequence[str]) -> Result:
        """Runs a command and interrupts it at a random moment."""
        share = self.rng.uniform(0.02, 1.0)
        moment, waited = share * self.unbroken.seconds, 0
        struck = self.kind.strike is None

        def strike(pid: int) -> None:
            nonlocal struck, waited
            waited += 1
            if struck or waited * 0.01 < moment or (self.kind.workers and not children(pid)):
                return
            struck = True
            assert self.kind.strike is not None
            self.kind.strike(pid, self.rng)

        patch = nullcontext() if self.kind.patch is None else self.kind.patch(share)
        with patch:
            result = run_command((*line, *self.kind.options(moment)), SECONDS, strike)
        self._note(result, self._interruption_faults(result))
        self.interruptions += result.code != 0 or self.kind.has_model
        self.moments.append(f"exit code {result.code} after {moment:.2f} s")
        if self.kind.damage is not None:
            self.kind.damage(self.out, self.rng)
        return result

    def _next_line(self, line: Sequence[str], result: Result) -> Sequence[str]:
        """The command that the run says, or the one that the manual says after a run that could say nothing."""
        said = RESUME.search(result.err)
        if said:
            return shlex.split(said[1])
        checkpoints = self.out / "checkpoints"
        saved = any((checkpoints / f"{name}.ckpt").exists() for name in ("last", "previous"))
        return [*(part for part in line if part != "--resume"), *(["--resume"] if saved else [])]

    def _interruption_faults(self, result: Result) -> Iterator[str]:
        """What is wrong with the end of an interrupted run; it may have been done before."""
        yield from command_faults(result)
        if result.code in (-signal.SIGTERM, 130) and not self.out.exists():
            return  # before the training began; 143 and 130 in a shell
        if result.code != 0 and result.code not in self.kind.codes:
            yield f"exit code {result.code}, not {self.kind.codes[0]}"
        if result.code in (143, 130) and not RESUME.search(result.err) and AGAIN not in result.err:
            yield "does not say how to resume"
        if result.code == 1 and len([text for text in result.err.splitlines() if text.startswith("glam: ")]) != 1:
            yield "does not say in one sentence what is wrong"
        if self.kind.has_model and result.code == 0:
            if not model_file(self.out).exists():
                yield "no model"
        elif result.code == 0 or model_file(self.out).exists():
            yield from self._end_faults(result, done=result.code == 0)

    def _is_lost(self) -> bool:
        """Whether the only checkpoint is one that was cut, so that the run cannot be resumed."""
        checkpoints = {file.stem for file in (self.out / "checkpoints").glob("*.ckpt")}
        return self.kind.damage is not None and checkpoints == {"last"}

    def _last_faults(self, result: Result) -> Iterator[str]:
        """What is wrong with the end of the last run, which is done, or is refused if there is nothing to resume."""
        if not self._is_lost():
            yield from self._end_faults(result)
            return
        yield from command_faults(result)
        if result.code != 1:
            yield f"exit code {result.code}, not 1, without a checkpoint that can be read"
        sentences = [text for text in result.err.splitlines() if text.startswith("glam: ")]
        if len(sentences) != 1 or "last.ckpt cannot be read" not in sentences[0]:
            yield "does not say in one sentence that the checkpoint cannot be read"

    def _end_faults(self, result: Result, *, done: bool = True) -> Iterator[str]:
        """What is wrong with the end of a run that is done, or that has written its model."""
        yield from command_faults(result)
        if done and result.code != 0:
            yield f"exit code {result.code}, not 0"
        if not (self.out / "result.json").exists():
            if done:
                yield "no result"
            return
        yield from read_ending(self.out).differences(self.unbroken.ending)

    def _note(self, result: Result, faults: Iterator[str]) -> None:
        found = list(faults)
        if found:
            command = shlex.join(["glam", *result.arguments])
            lines = [f"    {line}" for line in result.err.splitlines()[-30:]]
            self.faults.append("\n".join([*found, f"  {command}", *lines]))


def command_faults(result: Result) -> Iterator[str]:
    """What is wrong with any run: it hangs, or shows a traceback."""
    if result.code is None:
        yield f"did not end within {result.seconds:.0f} s"
    yield from (trace for trace in TRACES if trace in result.out + result.err)


def run_trial(number: int, *, seed: int, unbroken: Unbroken, keep: Path | None = None) -> Report:
    """Runs one trial.

    Args:
        number: number of the trial, which decides the kind.
        seed: seed of all trials.
        unbroken: the run to compare with.
        keep: folder to keep the run in, if something is wrong.
    """
    kind = KINDS[number % len(KINDS)]
    folder = Path(tempfile.mkdtemp(prefix="interruption-"))
    trial = Trial(folder, kind, random.Random(f"{seed}:{number}"), unbroken)
    try:
        trial.run()
    finally:
        keep_or_remove(folder, keep / f"{seed}-{number}" if trial.faults and keep is not None else None)
    faults = [f"trial {number}: {kind.name}: {fault}" for fault in trial.faults]
    return Report(kind.name, trial.moments, trial.interruptions, faults)
