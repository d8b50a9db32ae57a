"""`glam demo`: generate landmarks, train, evaluate before and after, and index. Nothing is downloaded."""

import time
from collections.abc import Sequence
from pathlib import Path

import glam
from glam.app.cli import terminal
from glam.datasets.readers import read_collection
from glam.datasets.synthetic import generate
from glam.errors import GlamError
from glam.eval.folder import FolderReport, evaluate_folder
from glam.eval.report import folder_result
from glam.index import build
from glam.model import Model
from glam.output import write_errors, write_json
from glam.training.checkpoints import has_state
from glam.training.cli import train
from glam.training.run_end import RESULT_FILE
from glam.training.teachers import MODEL_FILE

BASELINE = "timm:tf_efficientnet_lite0"
"""Model before training: the backbone of the configuration `demo`."""

SIZE = 256
"""Longest side of the generated images in pixels; arbitrary, and small so that the demo takes minutes."""

UNFINISHED, DONE = "unfinished", "done"
"""Files that mark a demo that was begun, and a finished one; they list the sets of images that are drawn."""

TRAINING = {"landmarks": 80, "images_per_landmark": 12, "first_landmark": 0}
UNSEEN = {"landmarks": 30, "images_per_landmark": 10, "first_landmark": 1000}
"""Generated sets for training and for evaluation; they share no landmark."""


def run(
    folder: Path,
    training: dict[str, int] = TRAINING,
    unseen: dict[str, int] = UNSEEN,
    train_options: Sequence[str] = (),
) -> Path:
    """Runs the demo in a folder and returns the path of the index.

    Args:
        folder: output folder for images, training run, result files, and index. A finished demo is not repeated, and
            an interrupted one is resumed.
        training: set of landmarks to train on, as arguments of `generate`.
        unseen: set of landmarks to evaluate on.
        train_options: further arguments of `glam train`.

    Raises:
        GlamError: the folder holds other files.
    """
    index = folder / "unseen.glam"
    if (folder / DONE).exists():
        terminal.note(f"{folder} holds a finished demo. Delete it to run the demo again.")
        return index
    if (folder / UNFINISHED).exists():
        terminal.note(f"{folder} holds an interrupted demo, which is resumed.")
    elif folder.exists() and any(folder.iterdir()):
        raise GlamError(f"{folder} is not empty. Delete it, or choose another folder.")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNFINISHED).touch()
    try:
        return _run(folder, index, training, unseen, train_options)
    except (KeyboardInterrupt, SystemExit):
        terminal.note(f"{folder}: the demo was interrupted. Run the command again to resume it.")
        raise


def _run(
    folder: Path, index: Path, training: dict[str, int], unseen: dict[str, int], train_options: Sequence[str]
) -> Path:
    """Does what is not done yet. Drawing, training, and indexing each continue where they were."""
    began = time.monotonic()
    _draw(folder / "train", training)
    _draw(folder / "unseen", unseen)
    trained = glam.load(_train(folder / "run", folder / "train", train_options))
    before = _evaluate(glam.load(BASELINE), folder, trained.size)
    after = _evaluate(trained, folder, trained.size)
    with terminal.progress("indexing") as report:
        build(index, read_collection(folder / "unseen"), trained, progress=report)
    terminal.table(
        ["unseen landmarks", "mAP", "95% interval", "recall@1"],
        [_row("ImageNet backbone with GeM", before), _row("trained, with GLAM", after)],
    )
    (folder / UNFINISHED).rename(folder / DONE)
    terminal.note(f"Finished in {time.monotonic() - began:.0f} s. All files are in {folder}.")
    return index


def _draw(folder: Path, what: dict[str, int]) -> None:
    drawn = folder.parent / UNFINISHED
    if folder.name in drawn.read_text().splitlines():
        return
    with terminal.progress(f"drawing {folder.name}") as report:
        generate(folder, size=SIZE, seed=0, progress=report, **what)
    with drawn.open("a") as file:
        file.write(f"{folder.name}\n")


def _train(out: Path, images: Path, options: Sequence[str]) -> Path:
    """Trains, unless it is done, and returns the model file."""
    if (out / RESULT_FILE).exists():
        return out / MODEL_FILE
    resumed = ["--resume"] if has_state(out) else []
    return train(["--config", "demo", "--out", str(out), "--data.train", str(images), *options, *resumed])


def _evaluate(model: Model, folder: Path, size: int) -> FolderReport:
    settings = model.settings(size=size)
    with terminal.progress(f"describing with {Path(model.name).name}") as progress:
        report = evaluate_folder(model, read_collection(folder / "unseen"), settings=settings, progress=progress)
    name = Path(model.name).stem.replace(":", "-")
    write_json(folder / f"result-{name}.json", folder_result("unseen", report, model, settings))
    return report


def _row(name: str, report: FolderReport) -> list[str]:
    return [
        name,
        terminal.percent(report.scores.mean_ap),
        terminal.interval(*report.scores.interval),
        terminal.percent(report.scores.recall_at_1),
    ]
