"""The attentions that GLAM is compared with, each against the formula of its paper, in float64."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glam.attention import ATTENTIONS, Attention
from glam.errors import GlamError

CHANNELS = 16


def attention(name: str, **options: Any) -> tuple[Attention, dict[str, Tensor]]:
    """An attention in float64, and its weights by name."""
    torch.manual_seed(0)
    module = ATTENTIONS.create({"name": name, **options}, CHANNELS).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module, {key.removeprefix("module."): values for key, values in module.state_dict().items()}


def features() -> Tensor:
    return torch.randn(2, CHANNELS, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_squeeze_and_excitation_scales_by_a_network_of_the_means() -> None:
    module, weights = attention("se", rd_ratio=0.5)
    x = features()
    expected = torch.empty_like(x)
    for image in range(2):
        hidden = F.relu(weights["fc1.weight"].flatten(1) @ x[image].mean(dim=(1, 2)) + weights["fc1.bias"])
        scale = torch.sigmoid(weights["fc2.weight"].flatten(1) @ hidden + weights["fc2.bias"])
        expected[image] = scale[:, None, None] * x[image]
    torch.testing.assert_close(module(x), expected)


def test_efficient_channel_attention_is_a_convolution_along_the_means() -> None:
    """The width of the kernel is the odd number nearest to |log2(c) / 2 + 1 / 2|, as in the paper."""
    module, weights = attention("eca")
    (kernel,) = (values.flatten() for values in weights.values())
    assert len(kernel) == 2 * (int(abs((math.log2(CHANNELS) + 1) / 2)) // 2) + 1
    x = features()
    means = F.pad(x.mean(dim=(2, 3)), (len(kernel) // 2, len(kernel) // 2))
    response = torch.stack([means[:, c : c + len(kernel)] @ kernel for c in range(CHANNELS)], dim=1)
    torch.testing.assert_close(module(x), x * torch.sigmoid(response)[:, :, None, None])


def test_cbam_attends_to_channels_then_to_positions() -> None:
    module, weights = attention("cbam", rd_ratio=0.5, spatial_kernel_size=3)
    x = features()

    def shared(values: Tensor) -> Tensor:
        hidden = F.relu(values @ weights["channel.fc1.weight"].flatten(1).T)
        return hidden @ weights["channel.fc2.weight"].flatten(1).T

    gates = torch.sigmoid(shared(x.mean(dim=(2, 3))) + shared(x.amax(dim=(2, 3))))
    scaled = x * gates[:, :, None, None]
    stacked = torch.stack([scaled.mean(dim=1), scaled.amax(dim=1)], dim=1)
    response = F.conv2d(stacked, weights["spatial.conv.conv.weight"], padding=1)
    response = response / math.sqrt(1 + 1e-5) * weights["spatial.conv.bn.weight"] + weights["spatial.conv.bn.bias"]
    torch.testing.assert_close(module(x), scaled * torch.sigmoid(response))


def test_non_local_attention_adds_a_weighted_mean_over_all_positions() -> None:
    """The embedded Gaussian of the paper: softmax of the products of query and key, here divided by sqrt(c)."""
    module, weights = attention("non_local", rd_ratio=0.5)
    x = features()
    rows = x.flatten(2).transpose(1, 2)  # (b, positions, c)
    query, key, value = (
        rows @ weights[f"{name}.weight"].flatten(1).T + weights.get(f"{name}.bias", 0.0) for name in "tpg"
    )
    mixed = (query @ key.transpose(1, 2) * CHANNELS**-0.5).softmax(dim=-1) @ value
    projected = mixed @ weights["z.weight"].flatten(1).T + weights.get("z.bias", 0.0)
    mean, var, gain, bias = (weights[f"norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    normed = (projected - mean) / (var + 1e-5).sqrt() * gain + bias
    torch.testing.assert_close(module(x), x + normed.transpose(1, 2).unflatten(2, (3, 5)))


@pytest.mark.parametrize("name", ATTENTIONS.names())
def test_every_attention_keeps_the_shape_and_gives_gradients(name: str) -> None:
    module, x = ATTENTIONS.create({"name": name}, 64), torch.randn(2, 64, 7, 4, requires_grad=True)
    assert module(x).shape == x.shape
    module(x).square().sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_an_unknown_attention_is_named_with_the_known_ones() -> None:
    with pytest.raises(GlamError, match=r"no attention named 'senet'. Choose one of cbam, eca, .*glam, non_local"):
        ATTENTIONS.create({"name": "senet"}, 8)
    with pytest.raises(GlamError, match="The attention 'glam' is already registered"):
        ATTENTIONS.register("glam")(Attention)
