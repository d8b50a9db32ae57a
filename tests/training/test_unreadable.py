"""Unreadable images and images without a landmark: they are left out, and the run goes on."""

import csv
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import glam
from glam.app.cli.main import app
from glam.datasets.readers import read_collection
from glam.errors import GlamError
from glam.eval.folder import evaluate_folder
from glam.training.cli import train
from glam.training.data import LandmarkData, hold_out
from glam.training.unreadable import UnreadableLog
from tests.training.test_data import batches

DrawImage = Callable[..., Image.Image]


@pytest.fixture
def photos(tmp_path: Path, draw_image: DrawImage) -> Path:
    """Folders ``train`` and ``val``, of five landmarks of four images each."""
    for part in ("train", "val"):
        for i in range(20):
            folder = tmp_path / part / f"{part} {i // 4}"
            folder.mkdir(parents=True, exist_ok=True)
            draw_image(72, 56, i).save(folder / f"{i:02}.jpg")
    return tmp_path


def cut(file: Path) -> str:
    """Cuts a file off behind its header, and returns its path."""
    file.write_bytes(file.read_bytes()[:800])
    return str(file)


def arguments(photos: Path, *more: str) -> list[str]:
    return [
        *("--data.train", str(photos / "train"), "--data.val", str(photos / "val"), "--data.size", "64"),
        *("--data.batch_size", "4", "--data.workers", "0", "--model.backbone", "resnet10t", "--model.dim", "8"),
        *("--model.pretrained", "false", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
        *("--out", str(photos / "run"), *more),
    ]


def unreadable(run: Path) -> list[str]:
    with (run / "unreadable.csv").open(newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def last_score(run: Path) -> float:
    with (run / "csv" / "version_0" / "metrics.csv").open(newline="") as file:
        return float([row["val_map"] for row in csv.DictReader(file) if row["val_map"]][-1])


def test_a_run_leaves_out_unreadable_images_and_lists_them(photos: Path) -> None:
    """One is cut, and one vanishes after its size is known."""
    bad = cut(photos / "train" / "train 0" / "00.jpg")
    rows = [f"{file.relative_to(photos / 'train')},{file.parent.name},72,56" for file in photos.glob("train/*/*.jpg")]
    (photos / "train" / "manifest.csv").write_text("\n".join(["path,landmark,width,height", *sorted(rows)]) + "\n")
    gone = photos / "train" / "train 1" / "05.jpg"
    gone.unlink()
    done = CliRunner().invoke(app, ["train", *arguments(photos)])
    assert done.exit_code == 0, done.output
    assert sorted(unreadable(photos / "run")) == [bad, str(gone)]
    assert f"{gone}: no such file" in done.output
    assert "They were left out" in done.output


def test_workers_choose_the_same_substitutes(photos: Path) -> None:
    cut(photos / "train" / "train 0" / "00.jpg")
    alone, others = (batches(photos / "train", workers, max_unreadable=1.0) for workers in (0, 1))
    for ours, expected in zip(alone, others, strict=True):
        for part, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(part, other)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_too_many_unreadable_images_end_the_run_in_one_sentence(photos: Path, workers: str) -> None:
    for i in range(3):
        cut(photos / "train" / "train 0" / f"{i:02}.jpg")
    with pytest.raises(GlamError, match=r"More than 10% of the 20 training images cannot be read; first: .*\.jpg: "):
        train(arguments(photos, "--data.workers", workers))
    assert unreadable(photos / "run")
    for checkpoint in (photos / "run" / "checkpoints").glob("*"):
        checkpoint.unlink()
    train(arguments(photos, "--data.workers", workers, "--data.max_unreadable", "0.2"))


def spoil(photos: Path, part: str, number: int) -> list[str]:
    """Replaces the first images of a part with text, and returns their paths."""
    files = sorted(photos.glob(f"{part}/*/*.jpg"))[:number]
    for file in files:
        file.write_text("no image")
    return [str(file) for file in files]


def test_a_run_that_cannot_begin_names_the_first_unreadable_images_and_lists_all(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = spoil(photos, "train", 12)
    with pytest.raises(GlamError, match="More than 10% of the 20 training images cannot be read"):
        train(arguments(photos))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:8] == [f"skipped: {path}: not an image that can be read" for path in bad[:8]]
    assert lines[8] == f"skipped: 4 more unreadable images; {photos / 'run' / 'unreadable.csv'} lists all of them"
    assert unreadable(photos / "run") == bad
    train(arguments(photos, "--data.max_unreadable", "0.6", "--model.start", "random", "--trainer.max_steps", "1"))


def test_the_reason_of_too_few_pairs_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = spoil(photos, "val", 20)
    with pytest.raises(GlamError, match="no landmark has two readable images"):
        train(arguments(photos))
    assert f"skipped: {bad[0]}: not an image that can be read" in capsys.readouterr().err


@pytest.mark.parametrize("taken", ["a run", "a file of the user"])
def test_the_list_replaces_nothing(photos: Path, capsys: pytest.CaptureFixture[str], taken: str) -> None:
    """All images are named instead."""
    bad = spoil(photos, "train", 12)
    out = photos / "run"
    (out / "checkpoints").mkdir(parents=True)
    if taken == "a run":
        (out / "checkpoints" / "last.ckpt").touch()
    (out / "unreadable.csv").write_text("path,reason\n" if taken == "a run" else "mine\n")
    before = (out / "unreadable.csv").read_bytes()
    with pytest.raises(GlamError, match="More than 10%"):
        train(arguments(photos))
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")] == [
        f"skipped: {path}: not an image that can be read" for path in bad
    ]
    assert (out / "unreadable.csv").read_bytes() == before


def test_images_that_turn_out_unreadable_are_named_before_the_error(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [cut(file) for file in sorted(photos.glob("train/train 0/*.jpg"))[:3]]
    with pytest.raises(GlamError, match="More than 10%"):
        train(arguments(photos, "--model.start", "random"))
    said = capsys.readouterr().err
    assert all(f"skipped: {path}: " in said for path in bad)


def test_what_was_passed_over_is_said_before_too_few_landmarks(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be listed is why there are too few."""
    real = os.scandir

    def refuse(path: str | Path) -> Any:
        if Path(path).name in ("train 1", "train 2"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = CliRunner().invoke(app, ["train", *arguments(photos, "--data.val", "null")])
    assert isinstance(done.exception, GlamError)
    assert "has 3 landmarks, too few to hold 2 out" in str(done.exception)
    assert "Folders that could not be listed:\n  train 1: permission denied\n  train 2: permission" in done.output
    assert not (photos / "run").exists()


def test_one_landmark_is_counted_in_the_singular(photos: Path) -> None:
    with pytest.raises(GlamError, match=r"has 1 landmark, too few to hold 2 out"):
        hold_out(read_collection(photos / "train").filter(lambda image: image.landmark == "train 0"), 0.1, 0)


def test_a_batch_without_any_readable_image_ends_the_run(photos: Path) -> None:
    """An example is a disk that is no longer mounted."""
    for file in photos.glob("train/*/*.jpg"):
        cut(file)
    with pytest.raises(GlamError, match="No image of a batch can be read any more"):
        train(arguments(photos, "--data.max_unreadable", "1", "--model.start", "random"))


def test_an_image_is_noted_once() -> None:
    log = UnreadableLog(10, 0.1)
    log.note([("a.jpg", "cut"), ("a.jpg", "cut")])
    log.note([("a.jpg", "cut")])
    assert log.reasons == {"a.jpg": "cut"}
    with pytest.raises(GlamError, match=r"first: a\.jpg: cut"):
        log.note([("b.jpg", "gone")])


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_score_is_that_of_an_evaluation(photos: Path, draw_image: DrawImage, workers: str) -> None:
    """Validation images that cannot be read do not count, and those without a landmark are distractors."""
    bad = cut(photos / "val" / "val 0" / "00.jpg")
    for i in range(6):
        draw_image(72, 56, i).save(photos / "val" / f"loose {i}.jpg")
    model = glam.load(str(train(arguments(photos, "--data.workers", workers))), "cpu")
    report = evaluate_folder(model, read_collection(photos / "val"))
    assert last_score(photos / "run") == pytest.approx(report.scores.mean_ap, abs=1e-6)
    assert unreadable(photos / "run") == [bad]


def test_a_score_that_cannot_be_computed_does_not_end_the_run(photos: Path) -> None:
    for file in photos.glob("val/*/*.jpg"):
        cut(file)
    assert train(arguments(photos)).is_file()


def test_images_without_a_landmark_are_not_trained_on(
    photos: Path, draw_image: DrawImage, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        draw_image(72, 56, i).save(photos / "train" / f"loose {i}.jpg")
    train(arguments(photos))
    assert "6 images have no landmark and are not trained on" in capsys.readouterr().err
    state = torch.load(photos / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["loss.centers"].shape == (5, 8)


def test_one_landmark_and_loose_images_are_too_little_to_train_on(photos: Path, draw_image: DrawImage) -> None:
    (photos / "few" / "tower").mkdir(parents=True)
    for name in ("tower/0.jpg", "tower/1.jpg", "0.jpg", "1.jpg"):
        draw_image(72, 56).save(photos / "few" / name)
    with pytest.raises(GlamError, match="fewer than two landmarks"):
        LandmarkData(photos / "few", photos / "val")


def test_validation_without_pairs_is_refused_at_the_start(photos: Path) -> None:
    for file in photos.glob("val/*/*.jpg"):
        if int(file.stem) % 4:
            file.unlink()
    with pytest.raises(GlamError, match="no landmark has two readable images"):
        train(arguments(photos))
    assert not (photos / "run").exists()


def test_landmarks_are_held_out_only_if_they_can_be_scored(photos: Path, draw_image: DrawImage) -> None:
    for i in range(30):
        (photos / "train" / f"single {i}").mkdir()
        draw_image(72, 56, i).save(photos / "train" / f"single {i}" / "0.jpg")
    held = LandmarkData(photos / "train", val_share=0.1, batch_size=4).val
    assert all(landmark.startswith("train") for landmark in held.landmarks)


def test_processes_list_each_others_unreadable_images(photos: Path) -> None:
    bad = [cut(photos / "train" / "train 0" / "00.jpg"), cut(photos / "train" / "train 4" / "17.jpg")]
    more = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--model.start", "random")
    command = [sys.executable, "-m", "glam.app", "train", *arguments(photos, *more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(unreadable(photos / "run")) == bad
