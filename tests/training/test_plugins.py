"""Attentions, poolings, and losses from a file outside the package, and options of earlier versions."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
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
        (["--model.glam.reduction", "8"], ["--model.attention.reduction=8"]),
        (["--model.gem_p=2"], ["--model.pooling.p=2"]),
        (["--model.margin", "0.1", "--x"], ["--model.loss.margin=0.1", "--x"]),
        (["--model.sharded", "true"], ["--model.loss.sharded=true"]),
        (["--model.attention", "se"], ['--model.attention={"name": "se"}']),
        (["--model.loss=CircleLoss"], ['--model.loss={"name": "CircleLoss"}']),
        (["--model.attention", "none"], ["--model.attention=null"]),
        (["--model.glam_lr", "1e-5"], ["--model.attention_lr=1e-5"]),
        (["--model.lr", "1", "--resume"], ["--model.lr", "1", "--resume"]),
        (["--model.glam"], ["--model.glam"]),
    ],
    ids=str,
)
def test_a_former_option_is_converted(former: list[str], current: list[str]) -> None:
    assert with_current_options(former) == current


@pytest.mark.parametrize(
    ("given", "option", "chosen"),
    [
        (["--model.loss", "triplet", "--model.loss.margin", "0.5"], "loss", {"name": "triplet", "margin": 0.5}),
        (["--model.loss", "triplet", "--model.margin", "0.5"], "loss", {"name": "triplet", "margin": 0.5}),
        (["--model.pooling=signed_gem", "--model.pooling.p=4"], "pooling", {"name": "signed_gem", "p": 4}),
        (["--model.pooling.p=4"], "pooling", {"name": "gem", "p": 4}),
        (["--model.attention=eca", "--model.attention.kernel_size=5"], "attention", {"name": "eca", "kernel_size": 5}),
        (["--config=lite0", "--model.attention=se"], "attention", {"name": "se"}),
        (["--config=lite0", "--model.attention.reduction=8"], "attention", {"name": "glam", "reduction": 8}),
        (["--config={model: {loss: triplet}}", "--model.loss.margin=0.5"], "loss", {"name": "triplet", "margin": 0.5}),
        (["--config={model: {loss: {scale: 7}, margin: 0.1}}"], "loss", {"name": "arcface", "margin": 0.1, "scale": 7}),
        (["--config={model: {gem_p: 4, pooling: gem}}"], "pooling", {"name": "gem", "p": 4}),
    ],
    ids=str,
)
def test_options_are_added_to_the_part_that_was_named(
    given: list[str], option: str, chosen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_cli([*given, "--data.train=nowhere", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["model"][option] == chosen


def test_weights_of_other_options_do_not_fit_a_run(photos: Path, tmp_path: Path) -> None:
    run = arguments(photos, tmp_path / "run", "--model.loss", "SubCenterArcFaceLoss", "--trainer.max_epochs")
    train([*run, "1"])
    with pytest.raises(GlamError, match=r"another run: its weights do not fit loss\.loss\.W\. Use the options"):
        train([*run, "2", "--model.loss.sub_centers", "5", "--resume"])


def test_contradictions_are_found_before_teachers_are_trained(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glam.training.cli.train_teachers", lambda *_: pytest.fail("teachers were trained"))
    with pytest.raises(GlamError, match="The loss triplet learns from landmarks, not from --teachers"):
        train(arguments(photos, tmp_path / "run", "--model.loss", "triplet", "--teachers", "[other.safetensors]"))


def test_a_loss_over_pairs_needs_landmarks_with_pairs(photos: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    for landmark in photos.iterdir():
        (single / landmark.name).mkdir(parents=True)
        shutil.copy(landmark / "0.png", single / landmark.name)
    more = ("--data.train", str(single), "--model.loss", "triplet")
    with pytest.raises(GlamError, match="each training landmark has one image"):
        train(arguments(photos, tmp_path / "run", *more))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("ATTENTIONS.register('se')(NoAttention)", "The attention 'se' is already registered"),
        ("ATTENTIONS.register('none')(NoAttention)", "'none' cannot name the attention"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_plugin_takes_no_name_of_glam_and_does_not_end_the_command(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "taken.py").write_text(f"from glam.attention import ATTENTIONS, NoAttention\n{source}\n")
    with pytest.raises(GlamError, match=rf"taken\.py: the plug-in cannot be imported .*{reason}"):
        import_plugin(tmp_path / "taken.py")


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("eca, kernel_size: 2", "the size of a kernel must be odd, not 2"),
        ("cbam, spatial_kernel_size: 2", "the size of a kernel must be odd, not 2"),
        ("se, rd_ratio: -1", "rd_ratio must be above 0, up to 1, not -1"),
        ("glam, device: cuda", "GLAM has no part 'device'"),
    ],
)
def test_an_option_that_an_attention_refuses_is_one_sentence(
    photos: Path, tmp_path: Path, choice: str, reason: str
) -> None:
    with pytest.raises(GlamError, match=f"cannot be made: {reason}"):
        train(arguments(photos, tmp_path / "run", "--model.attention", f"{{name: {choice}}}"))


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
