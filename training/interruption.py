"""Interruptions of a run by a signal or an error: the state is saved if possible, and a line says how to resume.

signal --`StopAfterStep`--> last.ckpt, Stopped --`interruptions`--> line that resumes, exit status
"""

import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from glam.errors import GlamError
from glam.registry import PLUGINS
from glam.training.checkpoints import LAST, checkpoint_file, has_state

if TYPE_CHECKING:
    from glam.training.cli import TrainingCLI

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
"""Signals that stop a run, with their names in messages."""


class Stopped(BaseException):
    """A signal stopped the run.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


class StopAfterStep(L.Callback):
    """Saves ``last.ckpt`` where a run of one process ends within an epoch: by a signal, or by a limit of steps or time.

    The first SIGTERM or Ctrl-C ends the run after the present step, or after the validation that follows it; the second
    one ends it at once. Several processes learn of a signal at different steps, so they leave it to Lightning.

    Args:
        out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.signal: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes over the signals; Lightning restores their handlers at the end."""
        if trainer.world_size == 1 and _in_main_thread():
            for number in NAMES:
                signal.signal(number, self._note)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends the run if a signal arrived at the end of the previous epoch, which is saved."""
        self._stop()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves the state if the run ends here; the end of an epoch is saved with its score, later."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if trainer.is_last_batch or not stepped:
            return
        ends = trainer.should_stop or trainer.global_step == trainer.max_steps
        if (ends or self.signal is not None) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(checkpoint_file(self.out, LAST))
        self._stop()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends the run if a signal arrived in the last epoch."""
        self._stop()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise Stopped(number)
        self.signal = number

    def _stop(self) -> None:
        if self.signal is not None:
            raise Stopped(self.signal)


@contextmanager
def interruptions(arguments: Sequence[str], cli: "TrainingCLI | None" = None) -> Iterator[None]:
    """Turns a signal into an exit status, and any error into one sentence, and says how to resume the run.

    Args:
        arguments: arguments of `glam train`.
        cli: the run; None while it is being built, when errors are left as they are.

    Raises:
        SystemExit: SIGTERM or Ctrl-C ended the block; the status is 128 and the number of the signal, as in a shell.
        GlamError: an exception ended the block.
    """
    alone = cli is None or cli.trainer.world_size == 1
    try:
        with _raising(signal.SIGTERM) if alone else nullcontext(), _quiet_threads():
            yield
    except BaseException as error:
        number = _signal_of(error, cli)
        if number is not None:
            _say(f"stopped by {NAMES[number]}", arguments, cli)
            sys.exit(128 + number)
        if cli is None or not isinstance(error, Exception):
            raise
        step = cli.trainer.global_step
        if step and has_state(Path(cli.config.out)):
            _say(f"stopped by an error at step {step}", arguments, cli)
        if isinstance(error, GlamError):
            raise
        raise GlamError(f"The run ended by an error: {_sentence(error)}") from error


def resume_line(arguments: Sequence[str], *more: str) -> str:
    """The command that resumes a run.

    Args:
        arguments: arguments of `glam train`.
        more: further arguments.
    """
    plugins = [word for file in PLUGINS for word in ("--plugin", str(file))]
    added = [] if "--resume" in arguments else ["--resume"]
    return shlex.join(["glam", *plugins, "train", *arguments, *added, *more])


@rank_zero_only
def _say(what: str, arguments: Sequence[str], cli: "TrainingCLI | None") -> None:
    if cli is not None and has_state(Path(cli.config.out)):
        print(f"{what}; resume with: {resume_line(arguments)}", file=sys.stderr)
    else:
        print(f"{what} before the first checkpoint; run the same command to start again", file=sys.stderr)


def _signal_of(error: BaseException, cli: "TrainingCLI | None") -> signal.Signals | None:
    """The signal that an exception comes from; None if it is something else."""
    if isinstance(error, Stopped):
        return error.number
    if isinstance(error, SIGTERMException):
        return signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if cli is None:
        return None
    if isinstance(error, SystemExit):  # Lightning exits with 1 after Ctrl-C
        return signal.SIGINT if cli.trainer.interrupted else None
    noted = [callback.signal for callback in cli.trainer.callbacks if isinstance(callback, StopAfterStep)]  # type: ignore[attr-defined]
    return next((signal.Signals(number) for number in noted if number), None)  # such as of workers that Ctrl-C ended


def _sentence(error: Exception) -> str:
    """What an exception says, in one line, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, torch.OutOfMemoryError):
        return f"{lines[0].split('. ')[0].rstrip('.')}. Set a smaller --data.batch_size or --data.size."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}. Check the disk, its free space, and the permissions."
    from_worker = "Original Traceback" in str(error)  # of a data loader, whose last line is the error itself
    reason = lines[-1] if from_worker else f"{type(error).__name__}: {lines[0]}"
    if "/torch_" in reason or "Bus error" in reason:
        return f"{reason.rstrip('.')}. Make the shared memory, /dev/shm, larger, or set --data.workers 0."
    return f"{reason.rstrip('.')}. Run `glam --debug train` for its origin."


@contextmanager
def _raising(number: signal.Signals) -> Iterator[None]:
    """Makes a signal raise `Stopped`, unless the program around this has a handler of its own."""
    if not _in_main_thread() or signal.getsignal(number) is not signal.SIG_DFL:
        yield
        return
    signal.signal(number, _raise)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keeps quiet about errors of the file system in threads of TensorBoard, which raises them in the run, too."""
    usual = threading.excepthook

    def show(error: threading.ExceptHookArgs) -> None:
        if not isinstance(error.exc_value, OSError):
            usual(error)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = usual


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
