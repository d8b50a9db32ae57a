"""Residual networks with fused convolutions compute what they did; what cannot be fused stays as it is.

cuDNN's calls are replaced by what they stand for where there is no GPU.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glam.backbone import Backbone
from glam.inference.optimize import fold_batch_norms
from glam.inference.resnet_fusion import ConvReLU, Residual, fuse_resnet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, *settings: object) -> Tensor:
    return F.conv2d(x, weight, bias, *settings).relu()  # type: ignore[arg-type]


def conv_add_relu(x: Tensor, weight: Tensor, z: Tensor, alpha: float, bias: Tensor, *settings: object) -> Tensor:
    return (F.conv2d(x, weight, bias, *settings) + alpha * z).relu()  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE == "cpu":
        monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)


def folded(name: str) -> nn.Module:
    """A network whose batch norms have seen something and are folded."""
    torch.manual_seed(0)
    backbone = Backbone(name)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.3, 0.6)  # type: ignore[arg-type]
            nn.init.uniform_(norm.bias, -0.3, 0.3)
            nn.init.uniform_(norm.running_mean, -0.3, 0.3)  # type: ignore[arg-type]
    backbone = backbone.to(DEVICE).eval().requires_grad_(False)
    fold_batch_norms(backbone)
    return backbone.net


@pytest.mark.parametrize(
    ("name", "blocks", "stems"),
    [("resnet18", 8, 1), ("resnet50", 16, 1), ("resnet26d", 8, 0), ("seresnet33ts", 0, 0), ("resnext50_32x4d", 0, 1)],
)
def test_fused_networks_compute_the_same(name: str, blocks: int, stems: int) -> None:
    net = folded(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fused = fuse_resnet(net)
    assert sum(isinstance(part, Residual) for part in fused.modules()) == blocks
    assert isinstance(getattr(fused, "conv1", None), ConvReLU) == bool(stems)
    images = torch.randn(2, 3, 96, 64, device=DEVICE)
    expected = net.forward_features(images)  # type: ignore[operator]
    error = (fused.forward_features(images) - expected).norm() / expected.norm()  # type: ignore[operator]
    assert error < (1e-5 if DEVICE == "cpu" else 2e-3)  # on a GPU single precision is multiplied in TF32
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_network_that_would_change_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = folded("resnet18")
    monkeypatch.setattr(torch, "cudnn_convolution_relu", lambda x, *rest: conv_relu(x, *rest) + 1)
    assert fuse_resnet(net) is net
