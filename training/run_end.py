"""The end of a run: the model file that it leaves, or the line that resumes it.

A run from a backbone writes the best validated epoch, or the last weights if nothing was validated. A run that
fine-tunes a model writes the better of that model and the last weights.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from glam import model_file
from glam.errors import GlamError
from glam.model import Model
from glam.model_file import ModelHeader
from glam.output import OutputKind, has_json_keys, write_json
from glam.training.checkpoints import LAST, MovableCheckpoint, checkpoint_file, read_checkpoint
from glam.training.finetune import compare_models

if TYPE_CHECKING:
    from glam.training.cli import TrainingCLI

COMPARISON_FILE = "comparison.json"
COMPARISON = OutputKind(
    "a comparison that `glam train` wrote", partial(has_json_keys, keys=("before", "after", "gain", "better"))
)

SIGTERM_EXIT, INTERRUPT_EXIT = 143, 130
"""Exit status of a process that SIGTERM or Ctrl-C ended: 128 and the number of the signal, as in a shell."""


@contextmanager
def stop_signals(cli: "TrainingCLI", arguments: Sequence[str], out: Path) -> Iterator[None]:
    """Turns the end of a training by a signal into an exit status other than 0, and says how to resume it.

    Args:
        cli: the run.
        arguments: arguments of `glam train`.
        out: folder of the run.

    Raises:
        SystemExit: SIGTERM or Ctrl-C ended the block.
    """
    try:
        yield
    except SIGTERMException:
        _say_stopped(cli, "SIGTERM", arguments, out)
        sys.exit(SIGTERM_EXIT)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning exits with 1 after Ctrl-C
        if isinstance(error, SystemExit) and not cli.trainer.interrupted:
            raise
        _say_stopped(cli, "Ctrl-C", arguments, out)
        sys.exit(INTERRUPT_EXIT)


@rank_zero_only
def _say_stopped(cli: "TrainingCLI", signal: str, arguments: Sequence[str], out: Path) -> None:
    if not checkpoint_file(out, LAST).exists():
        print(f"stopped by {signal} before the first checkpoint; run the same command to start again", file=sys.stderr)
        return
    command = shlex.join(["glam", "train", *arguments, *([] if cli.config.resume else ["--resume"])])
    print(f"stopped by {signal}; resume with: {command}", file=sys.stderr)


def write_best(cli: "TrainingCLI", best: MovableCheckpoint, path: Path) -> None:
    """Writes the weights of the best epoch as a model file, or the last weights if there is no such epoch.

    Args:
        cli: the run, which has ended.
        best: the callback that saved the best epoch.
        path: path of the model file.

    Raises:
        GlamError: no step was trained, or the file cannot be written.
    """
    trainer, data = cli.trainer, cli.datamodule
    if not trainer.global_step:
        raise GlamError("No step was trained, so there is no model. Set --trainer.max_epochs above 0.")
    score = best.best_model_score
    if best.best_model_path and score is not None and torch.isfinite(score):
        checkpoint = read_checkpoint(Path(best.best_model_path))
        cli.model.load_state_dict(checkpoint["state_dict"])
        source = cli.config.data.val or f"landmarks held out of {cli.config.data.train}"
        images = f"{len(data.val)} images of {len(data.val.landmarks)} landmarks"
        facts = {"epoch": checkpoint["epoch"] + 1, "val_map": float(score), "validated_on": f"{source}: {images}"}
        print(f"best of {trainer.current_epoch} epochs: {facts['epoch']}, by mAP on {images} ({source})")
    else:
        facts = {"epoch": trainer.current_epoch, "step": trainer.global_step, "val_map": None, "validated_on": None}
        print(f"no epoch has a validation score, so the model has the weights of the last step, {trainer.global_step}")
    cli.model.whiten(_device())
    cli.model.write_model(path, {**_training_metadata(cli), **facts}, half=cli.config.half)


def write_better(cli: "TrainingCLI", start: Model, path: Path, *, diverged: bool) -> None:
    """Compares the last epoch with the model it started from on held-out landmarks, and writes the better one."""
    device = _device()
    network, data = cli.model.network.to_device(device).eval(), cli.datamodule
    before = Model(start.name, start.network.to_device(device), start.header)
    training = {**_training_metadata(cli), "weights": cli.config.weights}
    header = ModelHeader(network.architecture, data.val_size, start.scales, training)
    better = False
    if not diverged:
        cli.model.whiten(device)
        comparison = compare_models(before, Model("after", network, header), data.val, data.train)
        write_json(path.parent / COMPARISON_FILE, comparison.to_dict())
        print(comparison)
        training["comparison"], better = comparison.to_dict(), comparison.better
    if better:
        print("The fine-tuned model is better and is written.")
        model_file.save(path, network, header, half=cli.config.half)
    else:
        print("The training did not help on these landmarks. The model that it started from is written unchanged.")
        model_file.save(path, before.network, before.header, half=cli.config.half)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _training_metadata(cli: "TrainingCLI") -> dict[str, Any]:
    """The facts about a run that go into the header of its model file."""
    training = {"data": str(cli.config.data.train), "seed": cli.config.data.seed}
    if cli.config.teachers:
        training["teachers"] = list(cli.config.teachers)
    if cli.model.options.end_whitening:  # the score of the epoch was measured before it
        training["end_whitening"] = cli.model.options.end_whitening
    return training
