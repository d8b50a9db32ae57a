"""The end of a run: the model file that it leaves, and the result.

A run from a backbone writes the best validated epoch, or the last weights if nothing was validated. A run that
fine-tunes a model writes the better of that model and the last weights.
"""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer

from glam import model_file
from glam.errors import GlamError
from glam.eval.report import versions
from glam.model import Model, load
from glam.model_file import ModelHeader
from glam.output import OutputKind, has_json_keys, write_json
from glam.plurals import count
from glam.training.checkpoints import MovableCheckpoint, read_checkpoint
from glam.training.finetune import compare_models
from glam.training.history import History
from glam.training.lora import with_merged_lora
from glam.training.weight_average import averaged_weights

if TYPE_CHECKING:
    from glam.training.cli import TrainingCLI

COMPARISON_FILE = "comparison.json"
COMPARISON = OutputKind(
    "a comparison that `glam train` wrote", partial(has_json_keys, keys=("before", "after", "gain", "better"))
)

RESULT_FILE = "result.json"
RESULT = OutputKind("a result of `glam train`", partial(has_json_keys, keys=("model", "steps", "epochs", "validation")))


def write_best(cli: "TrainingCLI", best: MovableCheckpoint, history: History, path: Path) -> dict[str, Any]:
    """Writes the weights of the best epoch as a model file, or the last weights if there is no such epoch.

    Args:
        cli: the run, which has ended.
        best: the callback that saved the best epoch.
        history: the scores of the epochs.
        path: path of the model file.

    Returns:
        The epoch or step of the weights, their score, and the images that it was measured on.

    Raises:
        GlamError: no step was trained, or the file cannot be written.
    """
    trainer = cli.trainer
    if not trainer.global_step:
        raise GlamError("No step was trained, so there is no model. Set --trainer.max_epochs above 0.")
    score = best.best_model_score
    validated = {epoch["epoch"]: epoch.get("val_images") for epoch in history.epochs if epoch["complete"]}
    facts: dict[str, Any]
    if best.best_model_path and score is not None and torch.isfinite(score):
        checkpoint = read_checkpoint(Path(best.best_model_path))
        cli.model.load_state_dict(checkpoint["state_dict"])
        average = averaged_weights(checkpoint)
        if average:
            cli.model.network.load_state_dict(average)
        facts = {"epoch": checkpoint["epoch"] + 1, "step": checkpoint["global_step"]}
        images = _validation_images(cli, validated.get(facts["epoch"]))
        facts |= {"val_map": float(score), "validated_on": images}
        complete = sum(epoch["complete"] for epoch in history.epochs)
        print(f"best of {count(complete, 'epoch')}: {facts['epoch']}, by mAP on {images}")
    else:
        last = history.epochs[-1] if history.epochs else {}  # of a run that ended within its first epoch
        known = last.get("step") == trainer.global_step and not trainer.fast_dev_run  # type: ignore[attr-defined]
        last_map = last.get("val_map", math.nan) if known else math.nan
        val_map = last_map if math.isfinite(last_map) else None
        images = _validation_images(cli, last.get("val_images"))
        facts = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        facts |= {"val_map": val_map, "validated_on": None if val_map is None else images}
        print(f"no epoch has a validation score, so the model has the weights of the last step, {trainer.global_step}")
    cli.model.whiten(_device())
    cli.model.write_model(path, {**_training_metadata(cli), **facts}, half=cli.config.half)
    return facts


def write_better(cli: "TrainingCLI", start: Model, path: Path, *, diverged: bool) -> dict[str, Any]:
    """Compares the last epoch with the model it started from on held-out landmarks, and writes the better one.

    Returns:
        Whether the fine-tuned model was written, and the comparison.
    """
    device = _device()
    if not diverged:
        cli.model.whiten(device)
    network, data = with_merged_lora(cli.model.network.to_device(device).eval()), cli.datamodule
    before = Model(start.name, start.network.to_device(device), start.header)
    training = {**_training_metadata(cli), "weights": cli.config.weights}
    header = ModelHeader(network.architecture, data.val_size, start.scales, training)
    better, compared = False, None
    if not diverged:
        comparison = compare_models(before, Model("after", network, header), data.val, data.train)
        compared, better = comparison.to_dict(), comparison.better
        write_json(path.parent / COMPARISON_FILE, compared)
        print(comparison.gain)
        training["comparison"] = compared
    if better:
        print("The fine-tuned model is better and is written.")
        model_file.save(path, network, header, half=cli.config.half)
    else:
        print("The training did not help on these landmarks. The model that it started from is written unchanged.")
        model_file.save(path, before.network, before.header, half=cli.config.half)
    return {"fine_tuned": better, "comparison": compared, "validated_on": None if diverged else _validation_images(cli)}


def write_result(cli: "TrainingCLI", history: History, validation: dict[str, Any], path: Path) -> None:
    """Writes ``result.json``, what a run did, into the folder of its model file.

    Args:
        cli: the run, which has ended.
        history: the scores of the epochs.
        validation: what the model file holds, from `write_best` or `write_better`.
        path: path of the model file.

    Raises:
        GlamError: the file cannot be written.
    """
    result = {
        "model": {"file": path.name, "fingerprint": load(str(path), "cpu").fingerprint},
        "steps": cli.trainer.global_step,
        "ended_by": end_of(cli.trainer),
        "validation": validation,
        "epochs": history.epochs,
        "resumed": history.resumed,
        "unreadable": len(cli.datamodule.unreadable),
        "versions": versions(),
    }
    write_json(path.parent / RESULT_FILE, result)


def end_of(trainer: L.Trainer) -> str:
    """The option whose limit ended a run: ``max_epochs``, ``max_steps``, ``max_time``, or "callback" for a callback."""
    if trainer.global_step == trainer.max_steps:
        return "max_steps"
    if not trainer.should_stop:
        return "max_epochs"
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    return "max_time" if any((timer.time_remaining() or 0) <= 0 for timer in timers) else "callback"


def _validation_images(cli: "TrainingCLI", scored: int | None = None) -> str:
    """The images of the validation, in words.

    Args:
        cli: the run.
        scored: number of them that were scored; None for all.
    """
    data = cli.datamodule
    source = cli.config.data.val or f"landmarks held out of {cli.config.data.train}"
    part = "" if scored is None or scored == len(data.val) else f"{scored} of "
    return f"{source}: {part}{count(len(data.val), 'image')} of {count(len(data.val.landmarks), 'landmark')}"


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
