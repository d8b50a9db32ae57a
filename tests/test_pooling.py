"""Poolings against their formulas in float64, and the class token of vision transformers."""

import pytest
import torch
import torch.nn.functional as F

from glam import Architecture, DescriptorNetwork, GlamError
from glam.backbone import Backbone
from glam.pooling import POOLINGS, GeM
from glam.pooling.signed_gem import SignedGeM

VIT = "vit_tiny_patch16_224"
REGISTERS = "vit_little_patch16_reg1_gap_256"


def test_signed_gem_is_its_formula() -> None:
    x = torch.randn(2, 4, 3, 5)
    exact = x.double()
    means = (exact.sign() * exact.abs() ** 3).mean(dim=(2, 3))
    torch.testing.assert_close(SignedGeM(3.0)(x).double(), means.sign() * means.abs() ** (1 / 3), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(SignedGeM(1.0)(x), x.mean(dim=(2, 3)))


def test_signed_gem_of_positive_features_is_gem_and_is_odd() -> None:
    x = torch.rand(2, 4, 3, 5) + 0.1
    torch.testing.assert_close(SignedGeM(3.0)(x), GeM(3.0)(x))
    torch.testing.assert_close(SignedGeM(3.0)(-x), -GeM(3.0)(x))


def test_signed_gem_has_finite_gradients_where_signs_cancel() -> None:
    x = torch.tensor([1.0, -1.0, 0.0, 0.0]).view(1, 1, 2, 2).requires_grad_()
    pool = SignedGeM(3.0)
    pool(x).sum().backward()
    assert x.grad is not None
    assert pool.p.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert bool(torch.isfinite(pool.p.grad))


def test_mean_pooling() -> None:
    x = torch.randn(2, 4, 3, 5, dtype=torch.float16)
    torch.testing.assert_close(POOLINGS.create({"name": "mean"}, 4)(x), x.float().mean(dim=(2, 3)))


@pytest.mark.parametrize("name", POOLINGS.names())
def test_every_pooling_trains_a_vision_transformer(name: str) -> None:
    network = DescriptorNetwork(Architecture(VIT, dim=8, attention=None, pooling={"name": name}))
    descriptors = network(torch.randn(2, 3, 32, 48))
    assert descriptors.shape == (2, 8)
    descriptors[0, 0].backward()
    assert all(parameter.grad is not None for parameter in network.parameters()), "DDP waits for all of them"


def test_the_class_token_is_that_of_the_network() -> None:
    torch.manual_seed(0)
    backbone = Backbone(VIT).eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        features, class_token = backbone(images)
        tokens = backbone.net.forward_features(images)
    torch.testing.assert_close(class_token, tokens[:, 0])
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_registers_are_not_part_of_the_feature_map() -> None:
    backbone = Backbone(REGISTERS).eval()
    images = torch.randn(1, 3, 32, 48)
    with torch.inference_mode():
        features, tokens = backbone(images).map, backbone.net.forward_features(images)
    assert backbone.net.num_prefix_tokens == 1
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_class_token_and_gem_are_joined_at_unit_length() -> None:
    features, class_token = torch.randn(2, 4, 3, 5), torch.randn(2, 4)
    pool = POOLINGS.create({"name": "cls+gem", "p": 2.0}, 4)
    expected = torch.cat([F.normalize(class_token), F.normalize(SignedGeM(2.0)(features))], dim=1)
    torch.testing.assert_close(pool(features, class_token), expected)
    assert pool.output_dim(4) == 8


@pytest.mark.parametrize("backbone", ["resnet10t", REGISTERS, "xcit_nano_12_p16_224"])
def test_a_backbone_without_a_class_token_is_one_sentence(backbone: str) -> None:
    with pytest.raises(GlamError, match=f"'{backbone}' has no class token. Choose a pooling without one"):
        DescriptorNetwork(Architecture(backbone, pooling={"name": "cls"}))


def test_a_pooling_is_made_for_the_channels_of_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of an attention divide the channels, so such a pooling cannot be made for any other number."""
    made: list[int] = []

    def heads(channels: int) -> GeM:
        made.append(channels)
        return GeM()

    monkeypatch.setitem(POOLINGS._factories, "heads", heads)
    DescriptorNetwork(Architecture("resnet10t", dim=8, attention=None, pooling={"name": "heads"}))
    assert made == [512]


def test_an_unknown_pooling_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        GlamError, match=r"no pooling named 'max'. Choose one of cls, cls\+gem, gem, .*mean, signed_gem"
    ):
        DescriptorNetwork(Architecture("resnet10t", pooling={"name": "max"}))
