"""GeM, backbones and the descriptor network."""

from typing import Any

import pytest
import torch

from glam import GLAM, Architecture, DescriptorNetwork, GeM, GlamError
from glam.attention.base import NoAttention
from glam.backbone import Backbone


def test_gem_is_the_generalized_mean() -> None:
    x = torch.rand(2, 3, 5, 7) + 0.1
    torch.testing.assert_close(GeM(p=3.0)(x), x.pow(3).mean(dim=(2, 3)).pow(1 / 3))
    torch.testing.assert_close(GeM(p=1.0)(x), x.mean(dim=(2, 3)))
    assert (GeM(p=60.0)(x) / x.amax(dim=(2, 3)) > 0.9).all()


def test_gem_does_not_overflow_half_precision() -> None:
    x = torch.full((1, 2, 4, 4), 100.0, dtype=torch.float16)  # 100^3 is past float16
    torch.testing.assert_close(GeM()(x), torch.full((1, 2), 100.0))


def test_gems_exponent_is_learned() -> None:
    pool = GeM()
    pool(torch.rand(1, 2, 3, 3)).sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad != 0


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", (64, 96)),
        ("tf_efficientnet_lite0", (64, 96)),
        ("convnext_atto", (64, 32)),
        ("vit_tiny_patch16_224", (48, 80)),
        ("vit_small_patch14_reg4_dinov2", (28, 56)),
        ("swin_tiny_patch4_window7_224", (64, 96)),
        ("xcit_nano_12_p16_224", (48, 80)),
        ("twins_svt_small", (64, 96)),
    ],
)
def test_any_timm_backbone_gives_a_map_for_any_size(name: str, size: tuple[int, int]) -> None:
    backbone = Backbone(name).eval()
    assert all(side % backbone.multiple == 0 for side in size)
    with torch.inference_mode():
        features = backbone(torch.randn(2, 3, *size)).map
    assert features.shape[:2] == (2, backbone.channels)
    assert features.ndim == 4


@pytest.mark.parametrize(("stride", "multiple"), [(None, 32), (16, 16), (8, 8)])
def test_images_come_in_multiples_of_the_stride(stride: int | None, multiple: int) -> None:
    """Then each position of the map is of as many pixels, and none of padding."""
    backbone = Backbone("resnet18", stride=stride).eval()
    assert backbone.multiple == multiple
    with torch.inference_mode():
        assert backbone(torch.randn(1, 3, 3 * multiple, 5 * multiple)).map.shape[2:] == (3, 5)


def test_packaged_imagenet_weights_are_loaded() -> None:
    """The packaged weights know ImageNet statistics: batch norms of a network drawn at random have variance 1."""
    trained = Backbone("tf_efficientnet_lite0", pretrained=True)
    assert not torch.equal(trained.net.bn1.running_var, torch.ones(32))
    assert trained.channels == 1280


@pytest.mark.parametrize("name", ["vgg11", "vit_tiny_patch16_224", "dla34"])
def test_a_stride_that_a_backbone_does_not_support_is_refused(name: str) -> None:
    with pytest.raises(GlamError, match=f"'{name}' does not support another stride"):
        Backbone(name, stride=16)


def test_an_unknown_backbone_is_one_sentence() -> None:
    with pytest.raises(GlamError, match="no model named 'resnet_9000'"):
        Backbone("resnet_9000")


@pytest.mark.parametrize("attention", [None, {"name": "glam", "reduction": 8}])
@pytest.mark.parametrize("dim", [None, 16])
def test_descriptors_have_unit_length(attention: dict[str, Any] | None, dim: int | None) -> None:
    network = DescriptorNetwork(Architecture("resnet18", dim=dim, attention=attention)).eval()
    with torch.inference_mode():
        descriptors = network(torch.randn(3, 3, 64, 96))
    assert descriptors.shape == (3, network.dim) == (3, dim or 512)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(3))
    assert isinstance(network.attention, GLAM if attention else NoAttention)


def test_depthwise_convolutions_are_never_channels_last_on_a_gpu() -> None:
    """cuDNN takes seconds there for each new shape, and one channels-last image turns the whole network to it."""
    depthwise = DescriptorNetwork(Architecture("tf_efficientnet_lite0"))
    dense = DescriptorNetwork(Architecture("resnet18"))
    assert depthwise.layout(torch.device("cuda")) == torch.contiguous_format
    assert dense.layout(torch.device("cuda")) == torch.channels_last
    assert depthwise.layout(torch.device("cpu")) == torch.channels_last


def test_the_whole_network_has_gradients() -> None:
    network = DescriptorNetwork(Architecture("resnet18", dim=16, attention={"name": "glam", "reduction": 8}))
    network(torch.randn(2, 3, 64, 64))[:, 0].sum().backward()
    assert all(p.grad is not None for name, p in network.named_parameters() if "fc" not in name)


@pytest.mark.parametrize(
    "name",
    ["mixer_s32_224", "hiera_tiny_224", "levit_128s", "crossvit_9_240", "efficientformer_l1", "inception_v3"],
)
def test_a_backbone_for_one_image_size_is_refused_when_it_is_made(name: str) -> None:
    with pytest.raises(GlamError, match=rf"'{name}' does not give a feature map for images of any size"):
        DescriptorNetwork(Architecture(name, dim=8, attention=None))


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_new_backbone_is_in_training_mode_and_unchanged_by_its_trial(name: str) -> None:
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture(name, dim=8, attention=None))
    assert all(module.training for module in network.modules())
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 0 for norm in norms)
