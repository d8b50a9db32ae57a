"""The recipe for Google Landmarks v2 on a small synthetic part of it: 200 steps, killed and resumed."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import glam
from glam.training import throughput
from glam.training.cli import train

PROGRAM = """
import os, signal, sys
from glam.training import module
step = module.LandmarkModule.training_step
def dying(self, batch, i):
    if self.global_step == 117:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, i)
module.LandmarkModule.training_step = dying
from glam.training.cli import train
train(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def gldv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve landmarks of eight images, in the published layout; two of the landmarks will be held out."""
    root = tmp_path_factory.mktemp("gldv2")
    lines = ["landmark_id,images"]
    for landmark in range(12):
        random = np.random.default_rng(landmark)
        view = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        ids = [random.bytes(8).hex() for _ in range(8)]
        for i, id in enumerate(ids):
            file = root / "train" / id[0] / id[1] / id[2] / f"{id}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            size = (160, 120) if i % 2 else (120, 160)
            Image.fromarray(view).resize(size, Image.Resampling.BICUBIC).save(file, quality=60 + i)
        lines.append(f"{landmark * 1000},{' '.join(ids)}")
    (root / "train_clean.csv").write_text("\n".join(lines) + "\n")
    return root


def arguments(gldv2: Path, out: Path) -> list[str]:
    """The recipe, reduced to ten epochs of twenty steps."""
    return [
        *("--config", "gldv2_r101", "--data.train", str(gldv2), "--data.size", "32", "--data.batch_size", "4"),
        *("--data.workers", "0", "--model.backbone", "resnet10t", "--model.pretrained", "false", "--model.dim", "16"),
        *("--model.attention", "{name: glam, reduction: 8}", "--model.compiled", "no", "--trainer.accelerator", "cpu"),
        *("--save_every", "10", "--out", str(out)),
    ]


def last_checkpoint(out: Path) -> dict[str, Any]:
    return torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)  # type: ignore[no-any-return]


def test_two_hundred_steps_are_killed_and_resumed(gldv2: Path, tmp_path: Path) -> None:
    """The final weights are bit-identical to those of an uninterrupted run, and the model file can be loaded."""
    train(arguments(gldv2, tmp_path / "unbroken"))
    broken = [sys.executable, "-c", PROGRAM, *arguments(gldv2, tmp_path / "broken")]
    killed = subprocess.run(broken, env=dict(os.environ), capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert last_checkpoint(tmp_path / "broken")["global_step"] == 110
    model = train([*arguments(gldv2, tmp_path / "broken"), "--resume"])
    ours, expected = (last_checkpoint(tmp_path / name) for name in ("broken", "unbroken"))
    assert ours["global_step"] == expected["global_step"] == 200
    assert all(torch.equal(ours["state_dict"][key], weight) for key, weight in expected["state_dict"].items())
    assert glam.load(model, "cpu").dim == 16


def test_its_speed_is_in_the_logs(gldv2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed is logged even if an epoch (twenty steps) is shorter than an interval."""
    monkeypatch.setattr(throughput, "callbacks", lambda: [throughput.Throughput(every=30)])
    train([*arguments(gldv2, tmp_path), "--data.workers", "1", "--trainer.max_epochs", "4"])
    table = (tmp_path / "csv" / "version_0" / "metrics.csv").open()
    rows = [row for row in csv.DictReader(table) if row.get("images_per_second")]
    assert [int(row["step"]) for row in rows] == [30, 60]
    assert all(float(row["images_per_second"]) > 0 and 0 <= float(row["waiting"]) <= 1 for row in rows)


class Answers(TorchDispatchMode):
    """Records the operations that wait for the device, because they read a number or count entries."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, by_mask = torch.ops.aten, (torch.bool, torch.uint8)
        read = func in (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default):
            read = any(index is not None and index.dtype in by_mask for index in args[1])
        if read:
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


class Asked(L.Callback):
    """Records these operations from the first to the last step of an interval."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.answers = Answers()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.first:
            self.answers.__enter__()
        elif trainer.global_step == self.last:
            self.answers.__exit__(None, None, None)


@pytest.mark.parametrize("more", [[], ["--model.loss.sharded", "true"]], ids=["whole", "sharded"])
def test_steps_do_not_wait_for_the_device(
    gldv2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """A GPU that is read at each step is idle until the next step is queued: a fifth of the time.

    A checkpoint waits for the weights anyway, so none is saved in these steps.
    """
    asked = Asked(21, 38)
    monkeypatch.setattr(throughput, "callbacks", lambda: [throughput.Throughput(), asked])
    train([*arguments(gldv2, tmp_path), "--trainer.max_epochs", "2", "--save_every", "1000", *more])
    assert asked.answers.asked == []


def test_processes_ask_each_other_for_a_signal_now_and_then(
    gldv2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's loop checks for SIGTERM before each step; the checks of forty steps are counted here."""
    asked: list[int] = []

    class Counting(L.Callback):
        def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            loop = trainer.fit_loop.epoch_loop
            loop._broadcast_sigterm_tensor = lambda: asked.append(loop.global_step)  # type: ignore[method-assign]
            throughput.FewerWaits(every=15).on_fit_start(trainer, pl_module)

        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()

    monkeypatch.setattr(throughput, "callbacks", lambda: [Counting()])
    train([*arguments(gldv2, tmp_path), "--trainer.max_epochs", "2"])
    assert asked == [0, 15, 30]
