"""`glam train`: LightningCLI for the landmark module and data, with YAML configurations and dotted overrides.

files --> LandmarkData --> LandmarkModule --> OUT/checkpoints --`run_end`--> OUT/model.safetensors
"""

import copy
import logging
import shutil
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from glam.datasets.collection import Collection
from glam.datasets.prepare import UNREADABLE
from glam.model import Model, load, read_header
from glam.output import write_errors, write_output
from glam.training import throughput
from glam.training.arguments import (
    OptionError,
    bundled_options,
    option_sentence,
    with_bundled_configs,
    with_help,
    with_one_list,
)
from glam.training.batch_memory import CheckMemory
from glam.training.checkpoints import (
    LAST,
    AtomicCheckpointIO,
    MovableCheckpoint,
    checkpoint_callbacks,
    checkpoint_file,
)
from glam.training.data import LandmarkData
from glam.training.divergence import DivergedError, StopIfDiverged
from glam.training.finetune import StartAtMeans, check_options, options_of
from glam.training.former_options import current_config, with_current_options
from glam.training.history import History
from glam.training.image_warnings import say_before_error, say_unreadable, say_without_landmark, warn_of_shared_images
from glam.training.interruption import StopAfterStep, interruptions, resume_line
from glam.training.module import LandmarkModule, architecture_of
from glam.training.options import CHOICES, COUNT, SEED, ModelOptions, check_range, choice
from glam.training.outputs import CONFIG_FILE, check_outputs
from glam.training.pca_init import check_image_count
from glam.training.plots import Plots
from glam.training.progress_lines import ProgressLines
from glam.training.resume import (
    SavedRun,
    changed_options,
    check_new_run,
    check_same_run,
    saved_run,
    settings_identity,
)
from glam.training.run_end import end_of, write_best, write_better, write_result
from glam.training.run_loss import check_combination, loss_choice
from glam.training.teachers import MODEL_FILE, train_teachers
from glam.training.unreadable import DataError, write_unreadable
from glam.training.weight_average import WeightAverage

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the size sampler distributes the images
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}


Show = Callable[[Collection], None]
"""Says what was read of a source, and what was passed over."""


class TrainingCLI(LightningCLI):
    """LightningCLI with the arguments of `glam train`.

    Args:
        show: called in the first process with the images of each source, also if the run cannot use them.
        arguments: positional arguments of LightningCLI.
        options: keyword arguments of LightningCLI.

    Attributes:
        show: called with the images of each source; None to say nothing.
        start: the trained model that the run fine-tunes; None if it starts from a backbone.
        saved: the run that is resumed; None for a new run.
    """

    start: Model | None = None
    saved: SavedRun | None = None

    def __init__(self, *arguments: Any, show: Show | None = None, **options: Any) -> None:
        self.show = show
        super().__init__(*arguments, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of a run that concern neither model, data, nor trainer."""
        parser.add_argument("--out", type=Path, default=Path("runs/glam"), help="folder of the run")
        parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="resume the run in --out")
        parser.add_argument("--half", type=bool, default=False, help="store the weights of the model as float16")
        parser.add_argument("--save_every", type=int, default=1000, help="steps between checkpoints within an epoch")
        parser.add_argument("--weights", type=str | None, default=None, help="model to fine-tune: a file or a name")
        parser.add_argument(
            "--teachers",
            type=list[str],
            default=[],
            help="models to distill, instead of learning from landmarks: each a file, or options of glam train that "
            "train a teacher on the same data first, in OUT/teachers/NUMBER",
        )
        parser.link_arguments("data.seed", "model.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments; a model to fine-tune sets the options that would replace it or its weights.

        Raises:
            OptionError: an option is given that such a model sets otherwise.
        """
        super().parse_arguments(parser, args)
        options: dict[str, Any] = {}
        if self.config.weights is not None:
            options = options_of(read_header(self.config.weights))
            parser.set_defaults(options)  # a configuration or the command line replaces them
            super().parse_arguments(parser, args)
        for name in CHOICES:
            self.config.model[name] = choice(name, self.config.model[name])
        check_options(self.config, options, bundled_options(self.config.config or ()))

    def before_instantiate_classes(self) -> None:
        """Seeds the random numbers, checks what can be known without network and images, and loads the start.

        Raises:
            GlamError: an option is out of its range, or ``--out`` holds no run to resume, or another one.
        """
        check_range("data.seed", self.config.data.seed, SEED)
        check_range("save_every", self.config.save_every, COUNT)
        check_range("trainer.accumulate_grad_batches", self.config.trainer.accumulate_grad_batches, COUNT)
        L.seed_everything(self.config.data.seed, workers=False, verbose=False)
        if self.config.resume:  # before the weights of the network are downloaded
            self.saved = saved_run(Path(self.config.out))
            check_same_run(self.saved.identity, self._settings_identity(), Path(self.config.out))
        if self.config.weights is not None:
            self.start = load(self.config.weights, "cpu")
            self.config.data.val_size = self.config.data.val_size or self.start.size

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Builds the trainer.

        Raises:
            OptionError: Lightning refuses one of its options.
        """
        precision = str(self.config.trainer.precision)
        if precision.endswith("16-true") or precision.startswith("transformer"):
            raise OptionError(f"--trainer.precision {precision} is not supported. Give bf16-mixed or 16-mixed instead.")
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise OptionError(with_help(str(error))) from error

    def instantiate_classes(self) -> None:
        """Builds and connects module, data, and trainer; the network is a copy of that of the model to fine-tune.

        Raises:
            DataError: the images cannot be used; what was passed over is said before.
        """
        try:
            super().instantiate_classes()
        except DataError as error:
            self.show_images(error.collections)
            say_before_error(self.config, error.unreadable)
            raise
        if self.start is not None:
            self.model.network = copy.deepcopy(self.start.network)
        self.model.connect(self.datamodule)

    @rank_zero_only
    def show_images(self, collections: Sequence[Collection]) -> None:
        """Calls ``show`` with the images of each source."""
        if self.show is not None:
            for collection in collections:
                self.show(collection)

    def _settings_identity(self) -> dict[str, Any]:
        """The part of the identity of the run that needs neither network nor images."""
        config = self.config
        if config.weights is not None:
            architecture = read_header(config.weights).architecture
        options = config.model.as_dict()
        backbone, dim, model_options = options.pop("backbone"), options.pop("dim"), ModelOptions(**options)
        if config.weights is None:
            architecture = architecture_of(backbone, dim, model_options)
        return settings_identity(
            architecture,
            model_options,
            loss=loss_choice(model_options, distilled=bool(config.teachers))["name"],
            seed=config.data.seed,
        )


def train(arguments: Sequence[str], show: Show | None = None) -> Path:
    """Trains a model and returns the path of the model file.

    Args:
        arguments: arguments of `glam train`, such as ``["--config", "lite0", "--data.train", "images"]``. A
            configuration is a path or one of `bundled_configs`.
        show: see `TrainingCLI`.

    Raises:
        OptionError: an option is wrong.
        GlamError: there is no such configuration; ``--out`` holds a run without ``--resume``, or none with it; the data
            cannot be used.
    """
    with interruptions(arguments):
        cli = build_cli(arguments, show)
    with interruptions(arguments, cli):
        return _train(cli, arguments)


def _train(cli: TrainingCLI, arguments: Sequence[str]) -> Path:
    """Checks all that can be known at the start, trains, and writes the model and the result."""
    cli.show_images(cli.datamodule.collections)
    out = Path(cli.config.out)
    if cli.saved is None:
        check_new_run(out)
    else:
        check_same_run(cli.saved.identity, cli.model.identity(distilled=bool(cli.config.teachers)), out)
    if cli.trainer.is_global_zero:
        check_outputs(cli.config)
        if cli.datamodule.unreadable:
            write_unreadable(out, cli.datamodule.unreadable)
        if cli.saved is not None and cli.saved.damage:
            print(cli.saved.damage, file=sys.stderr)
            with write_output(checkpoint_file(out, LAST)) as unfinished:
                shutil.copyfile(cli.saved.file, unfinished)
    say_unreadable(cli.datamodule.unreadable, out / UNREADABLE)
    say_without_landmark(cli.datamodule)
    _check_image_count(cli)
    clipped = bool(cli.config.trainer.gradient_clip_val)
    distilled = bool(cli.config.teachers)
    check_combination(cli.model.options, cli.datamodule, cli.model.network.dim, distilled=distilled, clipped=clipped)
    warn_of_shared_images(cli.datamodule)
    history = History({} if cli.saved is None else _changes(cli, out))
    best = _add_callbacks(cli, out, history)
    if cli.config.trainer.logger is None:
        cli.trainer.loggers = [
            CSVLogger(out, name="csv"),  # a resumed run gets a log of its own
            TensorBoardLogger(out, name="tensorboard"),
        ]
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    cli.model.teachers = [load(path, "cpu").network for path in train_teachers(cli.config, out / "teachers")]
    if cli.trainer.is_global_zero:
        with write_output(out / CONFIG_FILE) as unfinished:
            cli.parser.save(cli.config, unfinished, overwrite=True, skip_unset=False)
    diverged = False
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.saved and cli.saved.file, weights_only=True)
    except DivergedError as error:
        if cli.start is None:
            raise
        diverged = True
        rank_zero_only(print)(error)
    except DataError:
        say_unreadable(cli.datamodule.unreadable, out / UNREADABLE)
        raise
    finally:
        if cli.trainer.is_global_zero:
            write_unreadable(out, cli.datamodule.unreadable)
    if cli.trainer.is_global_zero:
        model = out / MODEL_FILE
        if cli.start is None:
            validation = write_best(cli, best, history, model)
        else:
            validation = write_better(cli, cli.start, model, diverged=diverged)
        write_result(cli, history, validation, model)
        if end_of(cli.trainer) == "max_time":
            line = resume_line(arguments, "--trainer.max_time", "null")
            print(
                f"ended by --trainer.max_time at step {cli.trainer.global_step}; resume with: {line}", file=sys.stderr
            )
    return out / MODEL_FILE


def _changes(cli: TrainingCLI, out: Path) -> dict[str, tuple[Any, Any]]:
    """The options that differ from those of the run that is resumed; says them."""
    try:
        before = yaml.safe_load((out / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # gone or damaged; the checkpoint has what must be the same
        return {}
    now = yaml.safe_load(cli.parser.dump(cli.config, skip_unset=False))
    changes = changed_options(current_config(before), now) if isinstance(before, dict) else {}
    for name, (old, new) in changes.items():
        rank_zero_only(print)(f"the run is resumed with --{name} {new} in place of {old}", file=sys.stderr)
    return changes


def _check_image_count(cli: TrainingCLI) -> None:
    """Makes sure that there are enough images for the PCA at the start and the whitening at the end of a run."""
    options = cli.model.options
    at_start = options.start == "pca" and not cli.config.resume
    if cli.config.model.dim is not None and (at_start or options.end_whitening):
        check_image_count(min(len(cli.datamodule.train), options.start_images), cli.config.model.dim)


def build_cli(arguments: Sequence[str], show: Show | None = None) -> TrainingCLI:
    """Builds module, data, and trainer from the arguments, with seeded weights. Trains nothing.

    Args:
        arguments: see `train`.
        show: see `TrainingCLI`.

    Raises:
        OptionError: an option is wrong.
        GlamError: there is no such configuration, or the data cannot be used.
    """
    _silence_lightning()
    expanded = with_one_list(with_current_options(with_bundled_configs(arguments)), "--data.exclude")
    try:
        return TrainingCLI(
            LandmarkModule,
            LandmarkData,
            show=show,
            args=expanded,
            run=False,
            seed_everything_default=False,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS | {"precision": _precision(), "enable_progress_bar": sys.stderr.isatty()},
            parser_kwargs={
                "prog": "glam train",
                "description": "Train a descriptor on images of landmarks.",
                "exit_on_error": False,
            },
        )
    except ArgumentError as error:
        raise OptionError(option_sentence(str(error))) from error


def _silence_lightning() -> None:
    """Silences the advertisements of Lightning, and its warnings about intended settings."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "LightningCLI's args parameter",  # `glam train` is a command of a larger program
        ".*treespec, LeafSpec.*",
        "The number of training batches",
        "Found .* module.s. in eval mode",  # batch norms are frozen
        ".*does not have many workers",
        ".*when logging on epoch level in distributed setting",  # each process scores all images
        "Checkpoint directory .* exists and is not empty",
        ".*could not find the monitored key",  # without validation; the end of the run says so
        "Be aware that when using",  # a callback of the run so far, such as the average of the weights
        "You're resuming from a checkpoint that ended before the epoch ended",  # the sampler resumes within it
        r"\s*``.*was deprecated in v4.49",  # called by LightningCLI
        r"\s*skip_none parameter was deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)


def _precision() -> str:
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"


def _add_callbacks(cli: TrainingCLI, out: Path, history: History) -> MovableCheckpoint:
    """Adds the callbacks that show progress and save checkpoints, the best epoch by mAP and the last state.

    Returns:
        The callback that saves the best epoch.
    """
    best, saving = checkpoint_callbacks(out, cli.config.save_every)
    shown = [*throughput.callbacks(), history, Plots(out)]
    if cli.trainer.progress_bar_callback is None:
        shown.append(ProgressLines())
    first: list[L.Callback] = [] if cli.start is None else [StartAtMeans()]
    if cli.model.options.ema is not None:
        first.append(WeightAverage(cli.model.options.ema))
    others = [callback for callback in cli.trainer.callbacks if not isinstance(callback, ModelCheckpoint)]  # type: ignore[attr-defined]
    checks = [*others, CheckMemory(), StopIfDiverged(cli.config.save_every)]
    cli.trainer.callbacks = [*checks, *first, *shown, StopAfterStep(out), *saving]  # type: ignore[attr-defined]
    cli.trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return best
