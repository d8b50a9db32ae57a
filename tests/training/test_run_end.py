"""The end of a run: a model whatever was validated, and a line that resumes it after a signal."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import glam
from glam.errors import GlamError
from glam.training.cli import train

DrawImage = Callable[..., Image.Image]


@pytest.fixture
def photos(tmp_path: Path, draw_image: DrawImage) -> Path:
    """Folders ``train`` and ``val``, of three landmarks of four images each."""
    for part in ("train", "val"):
        for i in range(12):
            folder = tmp_path / part / f"{part} {i // 4}"
            folder.mkdir(parents=True, exist_ok=True)
            draw_image(72, 56, i + 12 * (part == "val")).save(folder / f"{i:02}.jpg")
    return tmp_path


def arguments(photos: Path, *more: str) -> list[str]:
    return [
        *("--data.train", str(photos / "train"), "--data.val", str(photos / "val"), "--data.size", "64"),
        *("--data.batch_size", "4", "--data.workers", "0", "--model.backbone", "resnet10t", "--model.dim", "8"),
        *("--model.pretrained", "false", "--model.start", "random", "--trainer.accelerator", "cpu"),
        *("--out", str(photos / "run"), *more),
    ]


@pytest.mark.parametrize(
    "more",
    [
        ("--trainer.max_steps", "2"),
        ("--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0"),
        ("--trainer.fast_dev_run", "true"),
    ],
    ids=" ".join,
)
def test_a_run_without_validation_writes_its_last_weights(
    photos: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    model = glam.load(str(train(arguments(photos, *more))), "cpu")
    assert model.header.training["val_map"] is None
    assert model.header.training["validated_on"] is None
    assert model.header.training["step"] > 0
    assert "no epoch has a validation score" in capsys.readouterr().out


def test_a_model_says_what_it_was_validated_on(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = glam.load(str(train(arguments(photos, "--trainer.max_epochs", "1"))), "cpu")
    assert model.header.training["validated_on"] == f"{photos / 'val'}: 12 images of 3 landmarks"
    assert model.header.training["val_map"] > 0
    assert "best of 1 epochs: 1" in capsys.readouterr().out


def test_a_run_of_no_steps_has_no_model(photos: Path) -> None:
    with pytest.raises(GlamError, match="No step was trained"):
        train(arguments(photos, "--trainer.max_epochs", "0"))
    assert not (photos / "run" / "model.safetensors").exists()


def test_a_loss_that_is_not_finite_ends_the_run(photos: Path) -> None:
    with pytest.raises(GlamError, match=r"The loss is not finite at step \d+, so the training diverged"):
        train(arguments(photos, "--trainer.max_epochs", "3", "--model.lr", "1e29", "--model.new_lr", "1e29"))
    assert not (photos / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("how", ["renamed", "copied", "without best.ckpt"])
def test_a_moved_run_is_resumed(photos: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The best epoch is remembered with its score, unless its file is gone."""
    train(arguments(photos, "--trainer.max_epochs", "2"))
    other = photos / "other"
    shutil.copytree(photos / "run", other)
    if how != "copied":
        shutil.rmtree(photos / "run")
    if how == "without best.ckpt":
        (other / "checkpoints" / "best.ckpt").unlink()
    train(arguments(photos, "--trainer.max_epochs", "2", "--out", str(other), "--resume"))
    said = "no epoch has a validation score" if how == "without best.ckpt" else "best of 2 epochs"
    assert said in capsys.readouterr().out.splitlines()[-1]


def stop(photos: Path, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Trains until the first epoch is complete, sends a signal, and waits for the end."""
    command = [sys.executable, "-m", "glam.app", "train", *arguments(photos, "--trainer.max_epochs", "5000")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while not (photos / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_says_how_to_resume_it(photos: Path, number: signal.Signals, status: int) -> None:
    done = stop(photos, number)
    assert done.returncode == status, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    resume = " ".join(["glam", "train", *arguments(photos, "--trainer.max_epochs", "5000"), "--resume"])
    assert f"resume with: {resume}" in done.stderr
    assert not (photos / "run" / "model.safetensors").exists()
    assert (photos / "run" / "unreadable.csv").exists()
    more = ("--resume", "--trainer.max_epochs", "1")
    assert train(arguments(photos, *more)).is_file()
