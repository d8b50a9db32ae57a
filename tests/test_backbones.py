"""Backbones of unlike kinds: they train on two processes, and their model files describe images of any size."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glam import model_file
from glam.backbone import Backbone
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "backbones.py"

KINDS = {
    "convnext_atto": "a CNN whose classifier has a norm",
    "mobilenetv3_small_050": "a CNN whose classifier has a convolution",
    "mambaout_femto": "channels come last",
    "vit_tiny_patch16_224": "tokens of patches, and positions for any size",
    "xcit_nano_12_p16_224": "tokens of patches, and layers for the class alone",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Rows of the benchmark by backbone, without the export, which takes longest."""
    out = tmp_path_factory.mktemp("backbones") / "backbones.csv"
    command = [sys.executable, BENCHMARK, "--backbones", *KINDS, "--last", "describe", "--out", out]
    subprocess.run(command, check=False)  # the rows say what failed
    with out.open(newline="", encoding="utf-8") as file:
        return {row["backbone"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", KINDS)
def test_a_backbone_trains_on_two_processes_and_describes_images_of_any_size(
    name: str, rows: dict[str, dict[str, str]]
) -> None:
    steps = {step: rows[name][step] for step in ("make", "train", "save", "describe")}
    assert steps == dict.fromkeys(steps, "ok")


@pytest.mark.parametrize("name", KINDS)
def test_features_depend_on_every_parameter(name: str) -> None:
    backbone = Backbone(name)
    backbone(torch.randn(2, 3, 2 * backbone.multiple, 3 * backbone.multiple)).map.sum().backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_a_backbone_made_without_gradients_has_the_same_parameters() -> None:
    with torch.inference_mode():
        inference = Backbone("convnext_atto")
    assert inference.state_dict().keys() == Backbone("convnext_atto").state_dict().keys()
    assert inference.unused == {"head.norm.weight", "head.norm.bias"}


def test_a_model_file_with_parameters_that_are_not_used_is_read(tmp_path: Path) -> None:
    """Earlier versions wrote such files."""
    network = DescriptorNetwork(Architecture("convnext_atto", dim=None, attention=None))
    network.backbone.net.head.norm = torch.nn.LayerNorm(320)
    assert "backbone.net.head.norm.weight" in network.state_dict()
    file = tmp_path / "model.safetensors"
    model_file.save(file, network, ModelHeader(network.architecture, size=64))
    loaded, _ = model_file.load(file)
    weights = loaded.state_dict()
    assert len(weights) == len(network.state_dict()) - 2
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in weights.items())
