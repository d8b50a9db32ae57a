"""`glam train`: LightningCLI over the landmark module and data, from a YAML configuration with dotted overrides.

files -> LandmarkData -> LandmarkModule -> checkpoints in OUT -> OUT/model.safetensors: the best of them, or where a run
started from a trained model the better of that and the last.
"""

import copy
import logging
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from glam import model_file
from glam.errors import GlamError
from glam.model import Model, load
from glam.model_file import ModelHeader
from glam.output import OutputKind, check_not_input, check_output, has_json_keys, write_errors, write_json, write_output
from glam.training import throughput
from glam.training.data import LandmarkData
from glam.training.finetune import StartAtMeans, compare_models, diverged
from glam.training.module import LandmarkModule
from glam.training.plots import Plots
from glam.training.teachers import MODEL_FILE, train_teachers

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the size sampler shares images out itself
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}


class TrainingCLI(LightningCLI):
    """LightningCLI with the arguments of `glam train`.

    Attributes:
        start: the trained model that the run starts from; None where it starts from a backbone.
    """

    start: Model | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what a run is, beside model, data and trainer."""
        parser.add_argument("--out", type=Path, default=Path("runs/glam"), help="folder of the run")
        parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with that run")
        parser.add_argument("--half", type=bool, default=False, help="store the model's weights as float16")
        parser.add_argument("--save_every", type=int, default=1000, help="steps between checkpoints in an epoch")
        parser.add_argument("--weights", type=str | None, default=None, help="model to start from: a path or name")
        parser.add_argument(
            "--teachers",
            type=list[str],
            default=[],
            help="models to learn from instead of from landmarks: each a path, or options of glam train, which makes "
            "it first, on the same data, as OUT/teachers/NUMBER",
        )
        parser.link_arguments("data.seed", "model.seed")

    def before_instantiate_classes(self) -> None:
        """Seeds the layers that are drawn at random, and takes architecture and size from the model to start from."""
        L.seed_everything(self.config.data.seed, workers=False, verbose=False)
        if self.config.weights is not None:
            self.start = load(self.config.weights, "cpu")
            architecture = self.start.network.architecture
            self.config.model.backbone, self.config.model.pretrained = architecture.backbone, False
            self.config.model.dim, self.config.model.glam = self.start.dim, architecture.glam
            self.config.model.start, self.config.model.input_weight = "random", None  # they would undo its weights
            self.config.data.val_size = self.config.data.val_size or self.start.size

    def instantiate_classes(self) -> None:
        """Builds module, data and trainer, and connects them; the network is a copy of the model's where there is one
        to start from."""
        super().instantiate_classes()
        if self.start is not None:
            self.model.network = copy.deepcopy(self.start.network)
        self.model.connect(self.datamodule)


class PlainProgress(L.Callback):
    """One line an epoch, for logs."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the epoch's loss and validation scores."""
        if not trainer.is_global_zero:
            return
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        shown = [f"{key} {values[key]:.4f}" for key in ("epoch_loss", "val_map", "val_recall_at_1") if key in values]
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {'  '.join(shown)}", flush=True)


def train(arguments: Sequence[str]) -> Path:
    """Trains as the arguments say and returns the path of the model file.

    Args:
        arguments: of the command line, as in ``["--config", "lite0", "--data.train", "images"]``. A configuration is a
            path, or the name of one that comes with the package (`bundled_configs`).

    Raises:
        GlamError: ``--out`` holds a run and ``--resume`` was not given, or the other way round; unusable data.
    """
    cli = build_cli(arguments)
    out = Path(cli.config.out)
    last = out / "checkpoints" / "last.ckpt"
    if last.exists() and not cli.config.resume:
        raise GlamError(f"{out} holds an earlier run; add --resume to go on with it, or name another --out")
    if cli.config.resume and not last.exists():
        raise GlamError(f"{out} holds no run to go on with")
    if cli.trainer.is_global_zero:
        _check_outputs(cli, out)
    for error in cli.datamodule.unreadable:
        rank_zero_only(print)(f"left out: {error}", file=sys.stderr)
    best = _add_callbacks(cli, out)
    cli.trainer.loggers = [
        CSVLogger(out, name="csv"),  # a resumed run logs beside the first part, not over it
        TensorBoardLogger(out, name="tensorboard"),
    ]
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    cli.model.teachers = [load(path, "cpu").network for path in train_teachers(cli.config, out / "teachers")]
    if cli.trainer.is_global_zero:
        with write_output(out / CONFIG_FILE) as unfinished:
            cli.parser.save(cli.config, unfinished, overwrite=True, skip_unset=False)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=last if cli.config.resume else None, weights_only=True)
    if cli.trainer.is_global_zero:
        if cli.start is None:
            _write_best(cli, best, out / MODEL_FILE)
        else:
            _write_better(cli, cli.start, out / MODEL_FILE)
    return out / MODEL_FILE


def _check_outputs(cli: TrainingCLI, out: Path) -> None:
    """Makes sure that the run replaces no input and no file of another kind.

    A folder with other files in it is taken, since the log of a run is often redirected into the folder.
    """
    data = [Path(source) for source in (cli.config.data.train, cli.config.data.val) if source is not None]
    check_not_input(out, data)
    models = [Path(name) for name in (cli.config.weights, *cli.config.teachers) if name is not None]
    check_output(out / MODEL_FILE, model_file.MODEL, models)
    check_output(out / CONFIG_FILE, CONFIG)
    check_output(out / COMPARISON_FILE, COMPARISON)


def _is_config(path: Path) -> bool:
    keys = {line.partition(":")[0] for line in path.read_text(encoding="utf-8").splitlines()}
    return keys >= {"trainer", "model", "data", "resume"}


CONFIG_FILE = "config.yaml"
CONFIG = OutputKind("the configuration of a run of `glam train`", _is_config)
COMPARISON_FILE = "comparison.json"
COMPARISON = OutputKind(
    "a comparison that `glam train` wrote", partial(has_json_keys, keys=("before", "after", "gain", "better"))
)


def build_cli(arguments: Sequence[str]) -> TrainingCLI:
    """Builds module, data and trainer from the arguments, seeded; nothing is trained or written.

    Args:
        arguments: as of `train`.

    Raises:
        GlamError: unusable data.
    """
    _silence_lightning()
    return TrainingCLI(
        LandmarkModule,
        LandmarkData,
        args=_with_bundled_config(arguments),
        run=False,
        seed_everything_default=False,
        save_config_callback=None,
        trainer_defaults=TRAINER_DEFAULTS | {"precision": _precision(), "enable_progress_bar": sys.stderr.isatty()},
        parser_kwargs={"prog": "glam train", "description": "Train a descriptor on landmarks."},
    )


def bundled_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = resources.files("glam.training.configs")
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if str(f).endswith(".yaml")}


def _with_bundled_config(arguments: Sequence[str]) -> list[str]:
    """The arguments, names of bundled configurations replaced by their paths."""
    bundled = bundled_configs()
    expanded = list(arguments)
    for i, argument in enumerate(expanded):
        option, equals, value = argument.partition("=")
        if argument == "--config" and i + 1 < len(expanded) and expanded[i + 1] in bundled:
            expanded[i + 1] = str(bundled[expanded[i + 1]])
        elif option == "--config" and equals and value in bundled:
            expanded[i] = f"--config={bundled[value]}"
    return expanded


def _silence_lightning() -> None:
    """Silences Lightning's advertisements, and its warnings about settings that are intended."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "LightningCLI's args parameter",  # `glam train` is a command of a larger program
        ".*treespec, LeafSpec.*",
        "The number of training batches",
        "Found .* module.s. in eval mode",  # batch norms are frozen
        ".*does not have many workers",
        ".*when logging on epoch level in distributed setting",  # every process scores all images
        "Checkpoint directory .* exists and is not empty",
        "You're resuming from a checkpoint that ended before the epoch ended",  # the sampler enters it where it was
        r"\s*``.*was deprecated in v4.49",  # calls of LightningCLI's own
        r"\s*skip_none parameter was deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)


def _precision() -> str:
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def _add_callbacks(cli: TrainingCLI, out: Path) -> ModelCheckpoint:
    """Sets up what is shown and saved; returns what keeps the best epoch by validation mAP. The last state is kept to
    resume from."""
    folder = out / "checkpoints"
    best = ModelCheckpoint(
        folder, filename="best", monitor="val_map", mode="max", save_top_k=1, enable_version_counter=False
    )
    within = ModelCheckpoint(
        folder, filename="last", every_n_train_steps=cli.config.save_every, save_top_k=1, enable_version_counter=False
    )
    epoch = ModelCheckpoint(
        folder, filename="last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    shown = [*throughput.callbacks(), PlainProgress(), Plots(out)]
    first = [] if cli.start is None else [StartAtMeans()]
    kept = [callback for callback in cli.trainer.callbacks if not isinstance(callback, ModelCheckpoint)]  # type: ignore[attr-defined]
    cli.trainer.callbacks = [*kept, *first, *shown, best, within, epoch]  # type: ignore[attr-defined]
    return best


def _write_best(cli: TrainingCLI, best: ModelCheckpoint, path: Path) -> None:
    """Writes the best epoch's weights as a model file."""
    checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    cli.model.load_state_dict(checkpoint["state_dict"])
    cli.model.whiten(_device())
    score = None if best.best_model_score is None else float(best.best_model_score)
    training = {**_training_metadata(cli), "epoch": checkpoint["epoch"] + 1, "val_map": score}
    cli.model.write_model(path, training, half=cli.config.half)


def _write_better(cli: TrainingCLI, start: Model, path: Path) -> None:
    """Compares the last epoch with the start on the landmarks held out, writes the better as a model file, and says
    which that is."""
    device = _device()
    network, data = cli.model.network.to_device(device).eval(), cli.datamodule
    before = Model(start.name, start.network.to_device(device), start.header)
    training = {**_training_metadata(cli), "weights": cli.config.weights}
    header = ModelHeader(network.architecture, data.val_size, start.scales, training)
    better = False
    if diverged(network):
        print("training diverged")
    else:
        cli.model.whiten(device)
        comparison = compare_models(before, Model("after", network, header), data.val, data.train)
        write_json(path.parent / COMPARISON_FILE, comparison.to_dict())
        print(comparison)
        training["comparison"], better = comparison.to_dict(), comparison.better
    if better:
        print("kept: the fine-tuned model")
        model_file.save(path, network, header, half=cli.config.half)
    else:
        print("kept: the model it started from, unchanged, for training did not help on these landmarks")
        model_file.save(path, before.network, before.header, half=cli.config.half)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _training_metadata(cli: TrainingCLI) -> dict[str, Any]:
    """What a model file says of its training, whatever was kept."""
    training = {"data": str(cli.config.data.train), "seed": cli.config.data.seed}
    if cli.config.teachers:
        training["teachers"] = list(cli.config.teachers)
    if cli.model.options.end_whitening:  # after the score of the epoch was taken
        training["end_whitening"] = cli.model.options.end_whitening
    return training
