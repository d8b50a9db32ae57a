"""The end of a run: a model whatever was validated, and a line that resumes it after a signal."""

import errno
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from PIL import Image

import glam
from glam.errors import GlamError
from glam.training.checkpoints import AtomicCheckpointIO
from glam.training.cli import train
from glam.training.divergence import DivergedError, StopIfDiverged

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
    assert "best of 1 epoch: 1" in capsys.readouterr().out


def test_a_run_of_no_steps_has_no_model(photos: Path) -> None:
    with pytest.raises(GlamError, match="No step was trained"):
        train(arguments(photos, "--trainer.max_epochs", "0"))
    assert not (photos / "run" / "model.safetensors").exists()


def test_a_loss_that_is_not_finite_ends_the_run(photos: Path) -> None:
    with pytest.raises(GlamError, match=r"The loss is not finite at step \d+, so the training diverged"):
        train(arguments(photos, "--trainer.max_epochs", "3", "--model.lr", "1e29", "--model.new_lr", "1e29"))
    assert not (photos / "run" / "model.safetensors").exists()


def test_weights_that_are_not_finite_end_the_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step can leave them after a finite loss."""
    look = StopIfDiverged._look

    def spoil(callback: StopIfDiverged, trainer: Any, module: Any) -> None:
        with torch.no_grad():
            next(module.network.head.parameters()).fill_(torch.nan)
        look(callback, trainer, module)

    monkeypatch.setattr(StopIfDiverged, "_look", spoil)
    with pytest.raises(DivergedError, match=r"The weights are not finite at step \d+, so the training diverged"):
        train(arguments(photos, "--trainer.max_epochs", "1"))
    assert not (photos / "run" / "model.safetensors").exists()


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())  # type: ignore[no-any-return]


def test_the_result_says_what_the_run_did(photos: Path) -> None:
    model = glam.load(str(train(arguments(photos, "--trainer.max_epochs", "2"))), "cpu")
    found = result(photos / "run")
    assert found["model"] == {"file": "model.safetensors", "fingerprint": model.fingerprint}
    assert (found["steps"], found["ended_by"], found["resumed"]) == (6, "max_epochs", [])
    assert [(epoch["epoch"], epoch["step"], epoch["val_images"]) for epoch in found["epochs"]] == [
        (1, 3, 12),
        (2, 6, 12),
    ]
    best = max(found["epochs"], key=lambda epoch: float(epoch["val_map"]))
    assert found["validation"]["val_map"] == best["val_map"]
    more = ("--trainer.max_epochs", "3", "--model.lr", "0.01", "--resume")
    train(arguments(photos, *more))
    again = result(photos / "run")
    assert again["epochs"][:2] == found["epochs"]
    changes = {"model.lr": [0.0001, 0.01], "trainer.max_epochs": [2, 3]}
    assert again["resumed"] == [{"step": 6, "changes": changes}]


def test_part_of_the_validation_images_is_said(photos: Path) -> None:
    model = glam.load(
        str(train(arguments(photos, "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "2"))), "cpu"
    )
    assert ": 8 of 12 images of 3 landmarks" in model.header.training["validated_on"]


@pytest.mark.parametrize("limit", ["max_steps 4", "max_time 00:00:00:01"])
def test_a_run_that_a_limit_ends_within_an_epoch_is_resumed_there(
    photos: Path, limit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is up after the first step."""
    monkeypatch.setattr(Timer, "time_elapsed", lambda timer, stage="train": 9.0 if timer.start_time(stage) else 0.0)
    option, value = limit.split()
    train(arguments(photos, "--trainer.max_epochs", "2", f"--trainer.{option}", value))
    ended = result(photos / "run")
    said = "ended by --trainer.max_time at step 1; resume with: " in capsys.readouterr().err
    assert (ended["ended_by"], said) == (option, option == "max_time")
    assert not ended["epochs"][-1]["complete"]
    none = {"max_steps": "-1", "max_time": "null"}[option]
    train(arguments(photos, "--trainer.max_epochs", "2", "--resume", f"--trainer.{option}", none))
    whole = result(photos / "run")
    assert [(epoch["step"], epoch["complete"]) for epoch in whole["epochs"]] == [(3, True), (6, True)]


def test_a_checkpoint_appears_complete_and_keeps_the_one_before(tmp_path: Path) -> None:
    file, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for number in range(3):
        AtomicCheckpointIO().save_checkpoint({"number": number}, file)
    assert [torch.load(path)["number"] for path in (file, previous)] == [2, 1]
    assert sorted(tmp_path.iterdir()) == [file, previous]


def test_a_full_disk_is_named_and_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, file)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: (path.touch(), Full())[1])
        with pytest.raises(GlamError, match=r"last\.ckpt: cannot be written: No space left on device"):
            AtomicCheckpointIO().save_checkpoint({"number": 2}, file)
    assert torch.load(file)["number"] == 1
    assert list(tmp_path.iterdir()) == [file]


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
