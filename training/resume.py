"""Resuming a run: what must be the same is compared before anything is written, and what may differ is applied.

    last.ckpt --`saved_run`, once--> identity --`check_same_run`--> fit --`apply_rates`--> optimizer

Settings are compared before the network is made and images are read, landmarks and lists of images after that.

Same: architecture, optimizer, LoRA, loss, seed, landmarks, and lists of images. Free: learning rates, weight decay,
epochs, batch size, image size, devices, workers, and all other options.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from glam.datasets.collection import Collection
from glam.descriptor_files import listing_of
from glam.errors import GlamError
from glam.network import Architecture, current_settings
from glam.training.checkpoints import BEST, LAST, PREVIOUS, checkpoint_file, has_state, read_checkpoint
from glam.training.options import ModelOptions

IDENTITY = "run"
"""Key of the identity of a run in its checkpoints. Those of earlier versions have none."""

FREE = ("dropout",)
"""Parts of an architecture that no weight depends on."""

NAMES = {
    "images": "training images",
    "val_images": "validation images",
    "landmarks": "training landmarks",
    "loss": "kind of loss",
    "dim": "dimension",
    "lora": "rank of LoRA",
    "layer_decay": "decay of the learning rate over the layers",
}
"""Names in messages, where they differ from the keys."""


def settings_identity(architecture: Architecture, options: ModelOptions, *, loss: str, seed: int) -> dict[str, Any]:
    """The settings that make a run the same run, as JSON values. They are known before network and images.

    Args:
        architecture: settings of the network.
        options: the options of the model; those that the state of the optimizer depends on count.
        loss: name of the loss.
        seed: seed of the run.
    """
    settings = {name: value for name, value in architecture.to_dict().items() if name not in FREE}
    settings["pooling"] = settings["pooling"]["name"]  # its options are only the initial ones
    optimizer = {"optimizer": options.optimizer, "lora": options.lora, "layer_decay": options.layer_decay}
    return {**settings, "loss": loss, **optimizer, "seed": seed}


def _current_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity in a checkpoint, maybe of an earlier version, in the form of `settings_identity`."""
    if not identity:
        return {}
    identity = current_settings({"lora": None, "layer_decay": 1.0, **identity})
    if identity.get("loss") == "ArcFace":
        identity["loss"] = "arcface"
    return identity


def image_identity(train: Collection, val: Collection) -> dict[str, Any]:
    """The images that make a run the same run, as JSON values.

    Args:
        train: all training images, readable or not.
        val: all validation images, readable or not.
    """
    return {
        "landmarks": listing_of(train.landmarks),
        "images": listing_of(f"{image.path}\t{image.landmark}" for image in train.images),
        "val_images": listing_of(f"{image.path}\t{image.landmark}" for image in val.images),
    }


def check_same_run(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """Makes sure that a checkpoint belongs to the run that would resume it.

    Args:
        before: the identity in the checkpoint; empty if an earlier version wrote it.
        now: the identity of this run, or the part of it that is known.
        out: folder of the run, for the message.

    Raises:
        GlamError: the two differ.
    """
    for name in (name for name in before if name in now):  # in order, landmarks before images
        old, new = before[name], now[name]
        if old == new:
            continue
        if isinstance(old, dict) and "digest" in old:
            counts = f"{old['total']:,}", f"{new['total']:,}"
            changed = f"from {counts[0]} to {counts[1]}" if counts[0] != counts[1] else "their names"
            reason = f"the {NAMES[name]} have changed ({changed})"
        else:
            reason = f"its {NAMES.get(name, name)} is {old}, not {new}"
        advice = "Use the options and images of that run, or choose another --out."
        raise GlamError(f"{out} holds another run: {reason}. {advice}")


class SavedRun(NamedTuple):
    """The run that a folder holds.

    Attributes:
        file: its newest checkpoint that can be read.
        identity: the identity in this checkpoint; empty if an earlier version wrote it.
        damage: what is wrong with ``last.ckpt`` if it is not this checkpoint, else "".
    """

    file: Path
    identity: dict[str, Any]
    damage: str


def check_new_run(out: Path) -> None:
    """Makes sure that a folder holds no run.

    Args:
        out: folder of the run.

    Raises:
        GlamError: it holds one.
    """
    if has_state(out):
        raise GlamError(f"{out} holds an earlier run. Add --resume to resume it, or choose another --out.")


def saved_run(out: Path) -> SavedRun:
    """Finds the run to resume.

    Args:
        out: folder of the run.

    Raises:
        GlamError: it holds no run, or none whose checkpoints can be read.
    """
    if not has_state(out):
        raise GlamError(f"{out} holds no run to resume. Leave out --resume, or name the folder of the run with --out.")
    file, checkpoint, damage = checkpoint_to_resume(out)
    return SavedRun(file, _current_identity(checkpoint.get(IDENTITY, {})), damage)


def checkpoint_to_resume(out: Path) -> tuple[Path, dict[str, Any], str]:
    """Finds the newest checkpoint of a run that can be read.

    Args:
        out: folder of the run, which has a ``last.ckpt`` or a ``previous.ckpt``.

    Returns:
        The file, its content, and what is wrong with ``last.ckpt`` if it is not that one, else "".

    Raises:
        GlamError: no checkpoint can be read.
    """
    last = checkpoint_file(out, LAST)
    try:
        return last, read_checkpoint(last), ""
    except GlamError as error:
        damage = error
    readable = []
    for file in filter(Path.exists, (checkpoint_file(out, name) for name in (PREVIOUS, BEST))):
        try:
            readable.append((file, read_checkpoint(file)))
        except GlamError as error:
            damage = error
    if not readable:
        raise damage
    file, checkpoint = max(readable, key=lambda found: int(found[1]["global_step"]))
    step = checkpoint["global_step"]
    return file, checkpoint, f"{last} cannot be read, so the run resumes from {file.name}, step {step}"


def check_weights(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Makes sure that the weights of a checkpoint fit, because options of a loss or a pooling may change them.

    Args:
        saved: weights in the checkpoint by name.
        own: weights of this run by name.

    Raises:
        GlamError: one is missing, or has another shape.
    """
    for name, values in own.items():
        if name not in saved or saved[name].shape != values.shape:
            raise GlamError(
                f"The checkpoint is that of another run: its weights do not fit {name}. "
                "Use the options of that run, or choose another --out."
            )


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The options that differ from those of the run that is resumed.

    Args:
        before: configuration of the run so far, with nested sections.
        now: configuration of this run.
        prefix: name of the section, with a point at its end.

    Returns:
        The earlier and the present value by dotted name.
    """
    changes: dict[str, tuple[Any, Any]] = {}
    for name in sorted(before.keys() & now.keys() - {"resume", "out"}):
        old, new = before[name], now[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes |= changed_options(old, new, f"{prefix}{name}.")
        elif old != new:
            changes[prefix + name] = old, new
    return changes


def apply_rates(checkpoint: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Replaces the learning rates and the weight decay in a checkpoint, in place; the schedule continues with them.

    Args:
        checkpoint: a checkpoint of Lightning with one optimizer.
        groups: the parameter groups of the optimizer of this run.
    """
    for saved, group in zip(checkpoint["optimizer_states"][0]["param_groups"], groups, strict=True):
        peak = saved.get("initial_lr", group["lr"])
        if peak != group["lr"]:
            saved.update(lr=saved["lr"] * (group["lr"] / peak if peak else 0.0), initial_lr=group["lr"])
        saved["weight_decay"] = group["weight_decay"]
    for schedule in checkpoint["lr_schedulers"]:
        schedule["base_lrs"] = [group["lr"] for group in groups]
