"""The four attentions and GLAM, against the paper written out plainly; one test for each mistake met elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glam import GLAM
from glam.attention.branches import GlobalChannel, GlobalSpatial, LocalChannel, LocalSpatial

PARTS = ("local_channel", "local_spatial", "global_channel", "global_spatial")
SHAPES = [(1, 8, 1, 1), (2, 16, 7, 33), (3, 12, 5, 4), (1, 24, 16, 16)]


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def along_channels(conv: torch.nn.Conv1d, pooled: Tensor) -> Tensor:
    """A convolution with one channel in and out along a vector, written out: (c,) to (c,)."""
    kernel = conv.weight.flatten()
    half = len(kernel) // 2
    padded = F.pad(pooled, (half, half))
    return torch.stack([(padded[i : i + len(kernel)] * kernel).sum() for i in range(len(pooled))])


def paper(module: GLAM, image: Tensor) -> Tensor:
    """GLAM of one image, (c, h, w), as GLAM's equations print it, position by position and with every map written."""
    c, h, w = image.shape
    pooled = image.mean(dim=(1, 2))
    flat = image.reshape(c, h * w)
    a_lc = along_channels(module.local_channel.conv, pooled).sigmoid()[:, None, None]
    a_ls = module.local_spatial.as_drawn(image[None])[0]
    query = along_channels(module.global_channel.query, pooled).sigmoid()
    key = along_channels(module.global_channel.key, pooled).sigmoid()
    a_gc = torch.stack([torch.softmax(key * query[j], dim=0) for j in range(c)], dim=1)  # column j sums to 1 over keys
    g_c = (flat.T @ a_gc).T.reshape(c, h, w)
    spatial = module.global_spatial
    q, k, v = (conv(image[None])[0].reshape(-1, h * w) for conv in (spatial.query, spatial.key, spatial.value))
    a_gs = torch.stack([torch.softmax(k.T @ q[:, j], dim=0) for j in range(h * w)], dim=1)
    g_s = spatial.output((v @ a_gs).reshape(1, -1, h, w))[0]
    f_l = (image * a_lc + image) * a_ls + (image * a_lc + image)
    f_gc = image * g_c
    f_g = f_gc * g_s + f_gc
    w_l, w_g, weight = module.fusion.softmax(dim=0)
    return w_l * f_l + w_g * f_g + weight * image


@pytest.mark.parametrize("shape", SHAPES)
def test_glam_is_the_papers_equations_at_any_height_and_width(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    module = GLAM(shape[1], reduction=6).double()
    torch.nn.init.normal_(module.fusion)
    x = features(*shape)
    expected = torch.stack([paper(module, image) for image in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-8)


def test_an_image_does_not_depend_on_its_batch() -> None:
    module = GLAM(16, reduction=4).double()
    x = features(5, 16, 6, 7)
    torch.testing.assert_close(module(x)[2:3], module(x[2:3]))


def test_query_and_key_are_two_convolutions() -> None:
    module = GlobalChannel()
    assert module.query.weight is not module.key.weight
    assert not torch.equal(module.query.weight, module.key.weight)


def test_channel_convolutions_have_one_channel_in_and_out() -> None:
    assert LocalChannel(kernel_size=3).conv.weight.shape == (1, 1, 3)
    assert sum(p.numel() for p in GlobalChannel(kernel_size=3).parameters()) == 6


def test_global_channel_gives_weighted_means_of_channels() -> None:
    """Weights over the key axis sum to 1, so equal channels stay as they are; over the query axis they would not."""
    channel = features(2, 1, 5, 6)
    mixed = GlobalChannel().double()(channel.expand(2, 10, 5, 6))
    torch.testing.assert_close(mixed, channel.expand(2, 10, 5, 6), rtol=1e-6, atol=1e-8)


def test_global_spatial_gives_weighted_means_of_values() -> None:
    """A value that is the same everywhere comes out the same; a softmax over the whole hw x hw map would shrink it."""
    module = GlobalSpatial(8, 4).double()
    with torch.no_grad():
        module.value.weight.zero_()
        module.output.weight.fill_(1.0)
        module.output.bias.zero_()
    expected = module.value.bias.sum().expand(1, 8, 3, 5)
    torch.testing.assert_close(module(features(1, 8, 3, 5)), expected)


def test_global_spatial_has_no_scale() -> None:
    """Queries and keys of length r: with a 1/sqrt(r) scale the map would be flatter."""
    module = GlobalSpatial(4, 4).double()
    x = features(1, 4, 2, 2)
    q, k, v = (conv(x).reshape(4, 4) for conv in (module.query, module.key, module.value))
    expected = module.output((v @ (k.T @ q).softmax(dim=0)).reshape(1, 4, 2, 2))
    torch.testing.assert_close(module(x), expected)


def test_positions_are_transposed_not_reshaped() -> None:
    """Moving the picture by one position moves the global maps with it, which a reshape to (hw, c) would not do."""
    x = features(1, 8, 4, 6)
    rolled = x.roll(1, dims=3)
    for module in (GlobalChannel().double(), GlobalSpatial(8, 4).double()):
        torch.testing.assert_close(module(rolled), module(x).roll(1, dims=3))


@pytest.mark.parametrize("dilations", [(1, 2, 3), (1, 3, 5), (2,)])
@pytest.mark.parametrize("shape", SHAPES)
def test_local_spatial_folds_exactly(shape: tuple[int, ...], dilations: tuple[int, ...]) -> None:
    module = LocalSpatial(shape[1], 5, dilations).double()
    x = features(*shape).requires_grad_()
    folded, drawn = module(x), module.as_drawn(x)
    torch.testing.assert_close(folded, drawn)
    weights = [x, *module.parameters()]
    for ours, expected in zip(
        torch.autograd.grad(folded.square().sum(), weights),
        torch.autograd.grad(drawn.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


def test_local_spatial_with_norm_and_activation_runs_as_drawn() -> None:
    module = LocalSpatial(8, 4, norm=True, activation=True).double().train()
    assert not module.linear
    assert module(features(2, 8, 5, 5)).shape == (2, 1, 5, 5)
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules()) == 5


@pytest.mark.parametrize("off", PARTS)
def test_each_attention_can_be_switched_off(off: str) -> None:
    module = GLAM(8, reduction=4, **{off: False})
    assert getattr(module, off) is None
    assert all(getattr(module, part) is not None for part in PARTS if part != off)
    x = torch.randn(2, 8, 3, 5)
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match=r"GLAM has no part 'global'\. Its parts are local_channel, local_spatial"):
        GLAM(8, **{"global": False})


def test_with_all_off_it_is_the_identity() -> None:
    x = torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(GLAM(8, **dict.fromkeys(PARTS, False))(x), x)


def test_an_absent_stream_takes_no_part_in_the_fusion() -> None:
    module = GLAM(8, reduction=4, global_channel=False, global_spatial=False)
    assert module.fusion_weights()[1] == 0
    assert module.fusion_weights().sum().item() == pytest.approx(1.0)


def test_near_identity_start_only_scales_the_features() -> None:
    """The spatial attentions start at zero and the input has nearly all the weight, so that directions hardly turn."""
    torch.manual_seed(0)
    module = GLAM(32, reduction=8)
    module.start_near_identity(0.9)
    x = torch.rand(4, 32, 6, 6)
    pooled_before, pooled_after = x.mean(dim=(2, 3)), module(x).mean(dim=(2, 3))
    assert F.cosine_similarity(pooled_before, pooled_after).min() > 0.999
    assert module.fusion_weights()[2].item() == pytest.approx(0.9)
