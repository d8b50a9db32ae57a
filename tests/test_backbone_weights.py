"""Weights of backbones: from files, from the cache of the hub, and from a hub that does not answer."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import glam
from glam.errors import GlamError
from glam.training.cli import build_cli

NAME = "resnet10t"

ENDPOINT = "http://127.0.0.1:9"
"""The discard port of this machine, where nothing listens."""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Weights of the network with its classifier, as timm publishes them."""
    torch.manual_seed(0)
    return timm.create_model(NAME).state_dict()


def write(weights: dict[str, torch.Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights}, path)
    return path


def run_without_hub(cache: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python in a process for which the hub does not answer, with a cache of the hub."""
    environment = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": ENDPOINT}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_a_file_gives_the_weights(
    file: str, weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(weights, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    model = glam.load(f"timm:{NAME}@{file}", "cpu")
    assert model.name == f"timm:{NAME}@{path}"  # an index finds it from another folder
    loaded = model.network.backbone.net.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in loaded.items())
    assert glam.load(model.name, "cpu").fingerprint == model.fingerprint


def test_a_training_starts_from_a_file(
    weights: dict[str, torch.Tensor], tmp_path: Path, draw_image: Callable[..., Image.Image]
) -> None:
    path = write(weights, tmp_path / "weights.safetensors")
    for i in range(8):
        file = tmp_path / "images" / f"{i // 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_image(72, 56, i).save(file)
    options = ["--data.train", str(tmp_path / "images"), "--model.backbone", NAME, "--model.start", "random"]
    cli = build_cli([*options, "--model.pretrained", str(path)])
    loaded = cli.model.network.backbone.net.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in loaded.items())


def test_weights_of_another_network_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = write(weights, tmp_path / "weights.safetensors")
    with pytest.raises(GlamError, match=r"weights.safetensors does not contain the weights of ResNet: .*size mismatch"):
        glam.load(f"timm:resnet26t@{path}", "cpu")


def test_a_file_that_lacks_weights_is_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    others = {key: tensor for key, tensor in weights.items() if key != "layer4.0.conv2.weight"}
    path = write(others, tmp_path / "weights.pth")
    with pytest.raises(GlamError, match=r"weights of ResNet: it lacks layer4.0.conv2.weight"):
        glam.load(f"timm:{NAME}@{path}", "cpu")


@pytest.mark.parametrize("content", [b"", b"no weights", bytes(64)])
def test_a_file_of_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(GlamError, match=r"weights.pth does not contain the weights of ResNet"):
        glam.load(f"timm:{NAME}@{path}", "cpu")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GlamError, match=r"none.pth: no such file of weights"):
        glam.load(f"timm:{NAME}@{tmp_path / 'none.pth'}", "cpu")


@pytest.mark.parametrize(("name", "reason"), [("dpn48b", "no weights of 'dpn48b'"), ("resnet18.x", "no weights named")])
def test_a_name_without_weights_is_refused(name: str, reason: str) -> None:
    with pytest.raises(GlamError, match=reason):
        glam.load(f"timm:{name}", "cpu")


def test_a_hub_that_does_not_answer_is_one_sentence_without_retries(tmp_path: Path) -> None:
    command = ["-m", "glam.app", "export", "--model", f"timm:{NAME}", "--out", str(tmp_path / "model.onnx")]
    done = run_without_hub(tmp_path / "cache", *command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"glam: The weights of '{NAME}' cannot be downloaded, because {ENDPOINT} does not")
    assert done.stderr.count("\n") == 1


def test_weights_in_the_cache_need_no_hub(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    hub = tmp_path / "cache" / "hub" / f"models--timm--{NAME}.c3_in1k"
    path = write(weights, hub / "snapshots" / "0123" / "model.safetensors")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("0123")
    code = f"import glam; print(glam.load('timm:{NAME}', 'cpu').fingerprint)"
    done = run_without_hub(tmp_path / "cache", "-c", code)
    assert done.stdout.strip() == glam.load(f"timm:{NAME}@{path}", "cpu").fingerprint, done.stderr
    assert not done.stderr
