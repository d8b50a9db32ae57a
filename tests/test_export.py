"""ONNX: the same descriptors from any runtime, for any number and size of images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import glam
from glam import model_file
from glam.errors import GlamError
from glam.export import export_onnx
from glam.model import Model
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BACKBONE = "tf_mobilenetv3_small_minimal_100"
"""Padded as TensorFlow pads, otherwise for odd than for even sides: the hard case. An export takes a while."""

SHAPES = ((1, 32, 32), (3, 96, 64), (2, 224, 160), (5, 32, 416))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    torch.manual_seed(0)
    network = DescriptorNetwork(
        Architecture(BACKBONE, dim=16, attention={"name": "glam", "reduction": 8}, whitening=12)
    )
    folder = tmp_path_factory.mktemp("export")
    model_file.save(
        folder / "model.safetensors", network, ModelHeader(network.architecture, size=96, scales=(1.0, 0.5))
    )
    model = glam.load(folder / "model.safetensors", device="cpu")
    path = folder / "deep" / "model.onnx"
    export_onnx(model, path)
    return model, path


def test_it_gives_the_same_descriptors_at_every_size_and_batch(exported: tuple[Model, Path]) -> None:
    model, path = exported
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", 3, "height", "width"])]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("descriptors", ["batch", 12])]
    for batch, height, width in SHAPES:
        images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            expected = model.network(images).numpy()
        found = session.run(None, {"images": images.numpy()})[0]
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("backbone", "module"),
    [("mobilevit_xxs", "MobileVitBlock"), ("swin_tiny_patch4_window7_224", "SwinTransformerBlock")],
)
def test_a_network_that_pads_maps_to_windows_is_refused(backbone: str, module: str, tmp_path: Path) -> None:
    network = DescriptorNetwork(Architecture(backbone, dim=None, attention=None)).eval()
    model = Model("windows", network, ModelHeader(network.architecture, size=96))
    with pytest.raises(GlamError, match=f"windows cannot be written as ONNX: PyTorch does not trace {module} for"):
        export_onnx(model, tmp_path / "model.onnx")


def test_a_graph_that_gives_other_descriptors_is_not_written(tmp_path: Path) -> None:
    """The network does something else with a square map, and the image that it is traced with is not square."""

    class Flipped(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            if torch.compiler.is_compiling() or features.shape[2] != features.shape[3]:
                return features
            return features.flip(1)

    network = DescriptorNetwork(Architecture("resnet10t", dim=None, attention=None)).eval()
    network.attention = Flipped()
    model = Model("flipped", network, ModelHeader(network.architecture, size=96))
    with pytest.raises(GlamError, match="flipped cannot be written as ONNX: at 128 x 128 pixels, descriptors would"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_images_go_through_before(exported: tuple[Model, Path]) -> None:
    model, path = exported
    written = onnx.load(path)
    onnx.checker.check_model(written)
    facts = json.loads({entry.key: entry.value for entry in written.metadata_props}["glam"])
    assert (facts["size"], facts["multiple"], facts["scales"], facts["dim"]) == (96, 32, [1.0, 0.5], 12)
    assert facts["fingerprint"] == model.fingerprint
    assert facts["mean"] == list(model.network.backbone.mean)
    assert facts["std"] == list(model.network.backbone.std)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
