"""Model files: saved and opened again, refused where they are not ours."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    return DescriptorNetwork(
        Architecture("resnet10t", dim=8, attention={"name": "glam", "reduction": 4, "dilations": [1, 2]})
    ).eval()


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
        network.attention.fusion[0] += 1e-3  # type: ignore[index, union-attr]
    assert model_file.fingerprint(network) != before


def test_the_fingerprint_changes_with_the_architecture_where_the_weights_are_equal(network: DescriptorNetwork) -> None:
    """A stride is not in the weights, and gives other descriptors."""
    fine = DescriptorNetwork(replace(network.architecture, stride=16))
    fine.load_state_dict(network.state_dict())
    assert model_file.fingerprint(fine) != model_file.fingerprint(network)


def test_an_earlier_header_describes_the_same_model(network: DescriptorNetwork, tmp_path: Path) -> None:
    """Format 1 had the options of GLAM and the exponent of GeM, and weights named after GLAM."""
    header = json.loads(ModelHeader(network.architecture, size=96).to_json())
    architecture = header["architecture"]
    attention = architecture.pop("attention")
    architecture |= {"glam": {name: value for name, value in attention.items() if name != "name"}, "gem_p": 3.0}
    del architecture["pooling"]
    weights = {name.replace("attention.", "glam."): values for name, values in network.state_dict().items()}
    text = json.dumps({**header, "format": 1})
    save_file(weights, tmp_path / "earlier.safetensors", metadata={"glam": text})
    read, read_header = model_file.load(tmp_path / "earlier.safetensors")
    assert read_header.architecture.attention == network.architecture.attention
    assert model_file.fingerprint(read) == model_file.fingerprint(network)


@pytest.mark.parametrize(
    "other",
    [
        {"attention": {"name": "se"}},
        {"attention": None},
        {"pooling": {"name": "mean"}},
        {"pooling": {"name": "gem", "p": 2.0}},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_attention_and_pooling(network: DescriptorNetwork, other: dict[str, Any]) -> None:
    changed = DescriptorNetwork(replace(network.architecture, **other))
    assert model_file.fingerprint(changed) != model_file.fingerprint(network)


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("size", value) for value in (0, -5, 10**9, "big", 224.5, True, None, [96])),
        *(("scales", value) for value in ([], [float("nan")], [0], [1, float("inf")], [1e300], "1", 1, ["1"], [True])),
        *(("dim", value) for value in (0, -1, 10**12, "x", 8.0, False)),
        *(("whitening", value) for value in (-1, 0, 10**12, "4")),
        *(("stride", value) for value in (7, 0, "8", 8.0)),
        *(("gem_p", value) for value in (float("nan"), 0, -1, "3", None)),
        *(("dropout", value) for value in (1, -0.1, float("nan"), "0")),
        *(("backbone", value) for value in (5, None, ["resnet10t"])),
        *(("glam", value) for value in (3, [1])),
        *(("attention", value) for value in (3, [1], {}, {"name": 1}, "glam")),
        *(("pooling", value) for value in (3, None, {}, {"name": None}, "gem")),
        *(("training", value) for value in (None, "none")),
        ("licence", 3),
        *(("architecture", value) for value in (None, [], 3)),
    ],
    ids=str,
)
def test_a_field_of_a_wrong_type_or_out_of_range_is_refused(
    network: DescriptorNetwork, tmp_path: Path, field: str, value: object
) -> None:
    fields = json.loads(ModelHeader(network.architecture, size=96).to_json())
    (fields if field in fields else fields["architecture"])[field] = value
    save_file(network.state_dict(), tmp_path / "odd.safetensors", metadata={"glam": json.dumps(fields)})
    with pytest.raises(GlamError, match=rf"not a model file.*{field}"):
        glam.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("text", ["3", "[]", "null", "{}", '"header"', "[" * 100_000, '{"format": 1}'])
def test_a_header_that_is_none_is_refused(network: DescriptorNetwork, tmp_path: Path, text: str) -> None:
    save_file(network.state_dict(), tmp_path / "odd.safetensors", metadata={"glam": text})
    with pytest.raises(GlamError, match="not a model file"):
        glam.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("options", [{"reduction": 0}, {"unknown": 1}, {"reduction": "4"}], ids=str)
def test_an_attention_that_cannot_be_built_is_refused(
    network: DescriptorNetwork, tmp_path: Path, options: dict[str, object]
) -> None:
    header = ModelHeader(replace(network.architecture, attention={"name": "glam", **options}), size=96)
    model_file.save(tmp_path / "odd.safetensors", network, header)
    with pytest.raises(GlamError, match=r"odd\.safetensors: the header describes no network"):
        glam.load(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_neither_written_nor_loaded(
    network: DescriptorNetwork, tmp_path: Path, value: float
) -> None:
    header = ModelHeader(network.architecture, size=96)
    with torch.no_grad():
        network.head.linear.weight[0, 0] = value  # type: ignore[union-attr, index]
    with pytest.raises(GlamError, match=r"is not written: head\.linear\.weight .* diverged"):
        model_file.save(tmp_path / "model.safetensors", network, header)
    assert not (tmp_path / "model.safetensors").exists()
    save_file(network.state_dict(), tmp_path / "model.safetensors", metadata={"glam": header.to_json()})
    with pytest.raises(GlamError, match=r"head\.linear\.weight has a weight that is not finite"):
        glam.load(tmp_path / "model.safetensors")


def test_a_weight_beyond_half_precision_is_not_stored_in_it(network: DescriptorNetwork, tmp_path: Path) -> None:
    with torch.no_grad():
        network.head.linear.weight[0, 0] = 1e6  # type: ignore[union-attr, index]
    with pytest.raises(GlamError, match="Save the model without --half"):
        model_file.save(tmp_path / "half.safetensors", network, ModelHeader(network.architecture, size=96), half=True)


def test_weights_that_do_not_fit_are_refused(network: DescriptorNetwork, tmp_path: Path) -> None:
    header = ModelHeader(Architecture("resnet10t", dim=16, attention=None), size=96)
    model_file.save(tmp_path / "odd.safetensors", network, header)
    with pytest.raises(GlamError, match="do not fit"):
        glam.load(tmp_path / "odd.safetensors")


def test_bundled_models_are_found_by_name() -> None:
    bundled = glam.model.bundled_models()  # type: ignore[attr-defined]
    for name in bundled:
        assert glam.load(name, device="cpu").describe([Image.new("RGB", (64, 48))]).dtype == np.float32
