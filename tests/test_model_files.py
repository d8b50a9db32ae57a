"""Model files: saved and opened again, refused where they are not ours."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import glam
from glam import model_file
from glam.errors import GlamError
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork


@pytest.fixture
def network() -> DescriptorNetwork:
    torch.manual_seed(0)
    return DescriptorNetwork(Architecture("resnet10t", dim=8, glam={"reduction": 4, "dilations": [1, 2]})).eval()


def test_a_saved_model_describes_as_before(
    network: DescriptorNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = ModelHeader(network.architecture, size=96, scales=(1.0, 0.5), training={"epochs": 3}, licence="Apache-2.0")
    model_file.save(tmp_path / "model.safetensors", network, header)
    model = glam.load(tmp_path / "model.safetensors", device="cpu")
    assert (model.size, model.scales, model.dim) == (96, (1.0, 0.5), 8)
    assert model.header.training == {"epochs": 3}
    monkeypatch.chdir(tmp_path)
    assert glam.load("model.safetensors", device="cpu").name == str((tmp_path / "model.safetensors").resolve())
    assert model.fingerprint == model_file.fingerprint(network)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model.network(image), network(image))


def test_half_precision_is_half_the_size_and_nearly_the_same(network: DescriptorNetwork, tmp_path: Path) -> None:
    header = ModelHeader(network.architecture, size=96)
    for name, half in (("full", False), ("half", True)):
        model_file.save(tmp_path / f"{name}.safetensors", network, header, half=half)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    image = Image.effect_noise((96, 64), 80)
    full, half_ = (glam.load(tmp_path / f"{n}.safetensors", "cpu").describe([image])[0] for n in ("full", "half"))
    assert full @ half_ > 0.999


def test_the_fingerprint_changes_with_a_weight(network: DescriptorNetwork) -> None:
    before = model_file.fingerprint(network)
    with torch.no_grad():
        network.glam.fusion[0] += 1e-3  # type: ignore[index, union-attr]
    assert model_file.fingerprint(network) != before


def test_the_fingerprint_changes_with_the_architecture_where_the_weights_are_equal(network: DescriptorNetwork) -> None:
    """A stride is not in the weights, and gives other descriptors."""
    fine = DescriptorNetwork(replace(network.architecture, stride=16))
    fine.load_state_dict(network.state_dict())
    assert model_file.fingerprint(fine) != model_file.fingerprint(network)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    cases = {"no such model file": tmp_path / "nowhere.safetensors", "not a model file": tmp_path / "text.safetensors"}
    cases["not a model file"].write_text("hello")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    for reason, path in [*cases.items(), ("not a model file", foreign)]:
        with pytest.raises(GlamError, match=reason):
            glam.load(path)
    with pytest.raises(GlamError, match="no model named 'resnet'"):
        glam.load("resnet")


def test_a_newer_format_is_refused(network: DescriptorNetwork, tmp_path: Path) -> None:
    text = json.dumps({**json.loads(ModelHeader(network.architecture, size=96).to_json()), "format": 99})
    save_file(network.state_dict(), tmp_path / "new.safetensors", metadata={"glam": text})
    with pytest.raises(GlamError, match="format 99"):
        glam.load(tmp_path / "new.safetensors")


def test_weights_that_do_not_fit_are_refused(network: DescriptorNetwork, tmp_path: Path) -> None:
    header = ModelHeader(Architecture("resnet10t", dim=16, glam=None), size=96)
    model_file.save(tmp_path / "odd.safetensors", network, header)
    with pytest.raises(GlamError, match="do not fit"):
        glam.load(tmp_path / "odd.safetensors")


def test_bundled_models_are_found_by_name() -> None:
    bundled = glam.model.bundled_models()  # type: ignore[attr-defined]
    for name in bundled:
        assert glam.load(name, device="cpu").describe([Image.new("RGB", (64, 48))]).dtype == np.float32
