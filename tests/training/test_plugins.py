"""Attentions, poolings, and losses from a file outside the package, and options of earlier versions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glam
from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.eval.folder import evaluate_folder
from glam.registry import import_plugin
from glam.training.cli import build_cli, train
from glam.training.former_options import current_config, with_current_options
from glam.training.interruption import resume_line

PLUGIN = """
import torch
from glam.attention import ATTENTIONS, Attention
from glam.pooling import POOLINGS, Pooling
from glam.training.losses import LOSSES, Loss

@ATTENTIONS.register("soft_gate")
class Gated(Attention):
    def __init__(self, channels, width=1):
        super().__init__()
        self.gate = torch.nn.Conv2d(channels, 1, width, padding=width // 2)

    def forward(self, features):
        return features * torch.sigmoid(self.gate(features))

@POOLINGS.register("largest")
class Largest(Pooling):
    def __init__(self, channels):
        super().__init__()

    def forward(self, features, class_token=None):
        return features.float().amax(dim=(2, 3))

@LOSSES.register("likeness")
class Likeness(Loss):
    needs_pairs = True

    def __init__(self, context, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, descriptors, landmark_ids, images):
        same = (landmark_ids[:, None] == landmark_ids).float()
        return self.weight * (descriptors @ descriptors.T - 2 * same + 1).square().mean()
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(PLUGIN)
    import_plugin(file)
    import_plugin(file)  # again, which changes nothing
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight landmarks of four noisy views each, which differ in a small square alone."""
    root = tmp_path / "photos"
    for landmark in range(8):
        (root / f"landmark {landmark}").mkdir(parents=True)
        mark = np.random.default_rng(landmark).integers(0, 256, (8, 8, 3))
        for view in range(4):
            pixels = np.random.default_rng([landmark, view]).integers(0, 256, (64, 64, 3))
            pixels[16:48, 16:48] = np.kron(mark, np.ones((4, 4, 1), dtype=int))
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"landmark {landmark}" / f"{view}.png")
    return root


def arguments(photos: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--data.train", str(photos), "--data.val", str(photos), "--data.size", "64", "--data.batch_size", "16"),
        *("--data.images_per_landmark", "4", "--data.perspective", "0", "--data.crop", "1", "--data.workers", "0"),
        *("--model.backbone", "resnet10t", "--model.pretrained", "false", "--model.dim", "16"),
        *("--model.start", "random", "--model.freeze_batch_norm", "false", "--model.lr", "2e-3"),
        *("--model.new_lr", "2e-3", "--trainer.max_epochs", "8", "--trainer.accelerator", "cpu"),
        *("--out", str(out), *more),
    ]


@pytest.mark.parametrize(
    "more",
    [
        ("--model.attention", "{name: soft_gate, width: 3}"),
        ("--model.pooling", "largest"),
        ("--model.loss", "{name: likeness, weight: 5}"),
        ("--model.loss", "triplet"),
        ("--model.loss", "{name: contrastive, margin: 0.9}"),
        ("--model.loss", "CosFaceLoss"),
    ],
    ids=str,
)
def test_it_trains_above_the_untrained_start(plugin: Path, photos: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    """The model file that the run leaves is loaded again, and finds the views of a landmark better than before."""
    collection = read_folder(photos)
    cli = build_cli(arguments(photos, tmp_path / "run", *more))
    start = glam.model.Model(
        "start", cli.model.network.eval(), glam.model.ModelHeader(cli.model.network.architecture, 64)
    )  # type: ignore[attr-defined]
    before = evaluate_folder(start, collection).scores.mean_ap
    after = evaluate_folder(glam.load(train(arguments(photos, tmp_path / "run", *more)), "cpu"), collection)
    assert after.scores.mean_ap > before + 0.1


def test_the_command_runs_a_plugin(plugin: Path, photos: Path, tmp_path: Path) -> None:
    """A model with its parts is read by any command that names the file, and refused in one sentence without it."""
    out = tmp_path / "run"
    more = ("--model.attention", "soft_gate", "--model.pooling", "largest", "--trainer.max_steps", "1")
    run = command("--plugin", plugin, "train", *arguments(photos, out, *more))
    assert run.returncode == 0, run.stderr
    described = ("describe", photos / "landmark 0", "--model", out / "model.safetensors", "--out")
    assert command("--plugin", plugin, *described, tmp_path / "d.safetensors").returncode == 0
    refused = command(*described, tmp_path / "d2.safetensors")
    assert refused.returncode == 1
    assert "There is no pooling named 'largest'" in refused.stderr
    assert "--plugin FILE" in refused.stderr


def test_the_command_that_resumes_a_run_names_the_plugin(plugin: Path) -> None:
    assert resume_line(["--out", "run"]) == f"glam --plugin {plugin} train --out run --resume"


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "glam.app", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_plugin_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name")
    with pytest.raises(GlamError, match=r"broken\.py: the plug-in cannot be imported \(ModuleNotFoundError: No module"):
        import_plugin(broken)
    with pytest.raises(GlamError, match="no such plug-in"):
        import_plugin(tmp_path / "nowhere.py")


def test_a_loss_over_pairs_needs_pairs(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match=r"within a batch\. Set --data\.images_per_landmark 4\."):
        train(arguments(photos, tmp_path / "run", "--model.loss", "triplet", "--data.images_per_landmark", "null"))


@pytest.mark.parametrize(
    ("former", "current"),
    [
        (["--model.glam", "{reduction: 8}"], ['--model.attention={"name": "glam", "reduction": 8}']),
        (["--model.glam=null"], ["--model.attention=null"]),
        (["--model.glam.reduction", "8"], ["--model.attention.name=glam", "--model.attention.reduction=8"]),
        (["--model.gem_p=2"], ["--model.pooling.name=gem", "--model.pooling.p=2"]),
        (["--model.margin", "0.1", "--x"], ["--model.loss.name=arcface", "--model.loss.margin=0.1", "--x"]),
        (["--model.sharded", "true"], ["--model.loss.name=arcface", "--model.loss.sharded=true"]),
        (["--model.glam_lr", "1e-5"], ["--model.attention_lr=1e-5"]),
        (["--model.lr", "1", "--resume"], ["--model.lr", "1", "--resume"]),
        (["--model.glam"], ["--model.glam"]),
    ],
    ids=str,
)
def test_a_former_option_is_converted(former: list[str], current: list[str]) -> None:
    assert with_current_options(former) == current


def test_a_former_configuration_is_converted(tmp_path: Path) -> None:
    former = {"glam": {"reduction": 8}, "gem_p": 2.0, "margin": 0.1, "scale": 9, "sharded": True, "lr": 1, "glam_lr": 2}
    current = {
        "attention": {"name": "glam", "reduction": 8},
        "pooling": {"name": "gem", "p": 2.0},
        "loss": {"name": "arcface", "margin": 0.1, "scale": 9, "sharded": True},
        **{"lr": 1, "attention_lr": 2},
    }
    file = tmp_path / "former.yaml"
    file.write_text(json.dumps({"model": former, "out": "x"}))
    assert current_config({"model": former, "out": "x"}) == {"model": current, "out": "x"}
    (option,) = with_current_options(["--config", str(file)])
    assert json.loads(option.removeprefix("--config=")) == {"model": current, "out": "x"}
    file.write_text(json.dumps({"model": current}))
    assert with_current_options(["--config", str(file)]) == [f"--config={file}"], "the path of a present one stays"
