"""`glam train`: the command. `glam.training.cli` parses and documents its options, by LightningCLI.

`glam train --help` shows the options that most people use, without loading PyTorch; ``--help-all`` shows all of them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from glam.app.cli.help import Command, write_section

if TYPE_CHECKING:
    from glam.datasets.collection import Collection


class TrainCommand(Command):
    """The command `glam train`, whose help page lists options that Typer does not parse."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options that most people use."""
        write_section("Options", common_options(), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes what takes precedence."""
        formatter.write_paragraph()
        formatter.write_text(
            "A configuration replaces these defaults, and options on the command line replace those of a configuration."
        )


def common_options() -> list[tuple[str, str]]:
    """Name and help text of each option that `glam train --help` shows."""
    from glam.training.configs import bundled_configs
    from glam.training.options import DataOptions, ModelOptions

    data, model = DataOptions(), ModelOptions()
    names = ", ".join(sorted(bundled_configs()))
    return [
        ("--config NAME", f"Configuration: {names}, or a YAML file."),
        ("--data.train FOLDER", "Images in one sub-folder per landmark, or a CSV manifest. [required]"),
        ("--data.val FOLDER", f"Images of other landmarks. [default: {data.val_share:.0%} of the training landmarks]"),
        ("--data.exclude PATTERN", "Leave out paths, as in a .gitignore; can be repeated."),
        ("--data.follow_links true", "Follow links to folders."),
        ("--data.landmark_from NAME", "folder, parent, manifest, or none. [default: manifest if there is one]"),
        ("--data.size PIXELS", f"Longest side of training images. [default: {data.size}]"),
        ("--data.batch_size N", f"Images per step and device. [default: {data.batch_size}]"),
        ("--data.workers N", "Processes that read images. [default: cores - 1, at most 16]"),
        ("--data.seed N", f"Seed of all random numbers. [default: {data.seed}]"),
        ("--model.backbone NAME", "Backbone, a model name of timm. [default: resnet101]"),
        ("--model.dim N", "Dimensions of the descriptor. [default: 512]"),
        ("--model.lr RATE", f"Learning rate of the backbone. [default: {model.lr:g}]"),
        ("--model.new_lr RATE", f"Learning rate of the new layers. [default: {model.new_lr:g}]"),
        ("--weights MODEL", "Fine-tune this model: a model file or the name of a bundled model."),
        ("--trainer.max_epochs N", "Number of epochs."),
        ("--trainer.devices N", "Number of GPUs. [default: all]"),
        ("--trainer.precision NAME", "32-true, bf16-mixed, or 16-mixed. [default: bf16-mixed on a GPU]"),
        ("--out FOLDER", "Folder of the run. [default: runs/glam]"),
        ("--resume", "Resume the run in --out."),
        ("-h, --help", "Show this message and exit."),
        ("--help-all", "Show all options and exit."),
    ]


def train(context: typer.Context) -> None:
    """Train a descriptor on images of landmarks."""
    from lightning.pytorch.utilities import rank_zero_only

    from glam.training.arguments import OptionError
    from glam.training.cli import train as run

    arguments = ["--help"] if "--help-all" in context.args else context.args
    try:
        path = run(arguments, show=_show)
    except OptionError as error:
        context.fail(str(error))
    rank_zero_only(_report)(path)


def _show(images: "Collection") -> None:
    from glam.app.cli import terminal

    terminal.contents(images, "--data.landmark_from")
    terminal.skipped(images.skipped)


def _report(model: Path) -> None:
    from glam.app.cli import terminal
    from glam.datasets.prepare import UNREADABLE
    from glam.training.unreadable import read_unreadable

    reasons = read_unreadable(model.parent)
    terminal.unreadable(reasons)
    if reasons:
        terminal.note(f"They were left out; {model.parent / UNREADABLE} lists them, too.")
    terminal.say(f"model written to {model}")
