"""Fast forms against plain forms: values and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from glam.kernels import (
    channel_attention,
    channel_attention_dense,
    dilated_taps,
    dilated_taps_dense,
    spatial_attention,
    spatial_attention_dense,
)
from glam.kernels.channel_attention import EXP_COEFFICIENTS

SHAPES = [(1, 4, 1, 1), (2, 16, 7, 33), (3, 9, 5, 4)]


def as_rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def assert_same(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, rtol: float) -> None:
    """Outputs and every gradient agree: norm of the difference over the norm of the plain form's, in float64."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    exact = [x.double().clone().requires_grad_() for x in inputs]
    ours, expected = fast(*leaves), plain(*exact)
    weights = torch.randn_like(expected)
    found = [ours, *torch.autograd.grad((ours * weights.to(ours.dtype)).sum(), leaves)]
    wanted = [expected, *torch.autograd.grad((expected * weights).sum(), exact)]
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.double() - theirs).norm() <= rtol * theirs.norm() + 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_low_rank_channel_attention(shape: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    query, key = torch.rand(shape[:2]), torch.rand(shape[:2])
    assert_same(channel_attention, channel_attention_dense, torch.randn(shape), query, key, rtol=1e-5)


def test_the_polynomial_is_exp_to_float32_precision() -> None:
    x = torch.linspace(-0.5, 0.5, 10_001, dtype=torch.float64)
    polynomial = sum(c * x**n for n, c in enumerate(EXP_COEFFICIENTS))
    assert (polynomial - x.exp()).abs().max() < 1e-9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_fused_spatial_attention(shape: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    rows = (as_rows(torch.randn(shape)) for _ in range(3))
    assert_same(spatial_attention, spatial_attention_dense, *rows, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dilations", [(1, 3, 5), (2,)])
def test_dilated_taps(shape: tuple[int, ...], dilations: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(shape), torch.randn(shape[1]), torch.randn(len(dilations), shape[1], 3, 3)
    assert_same(
        lambda *x: dilated_taps(*x, dilations), lambda *x: dilated_taps_dense(*x, dilations), *inputs, rtol=1e-5
    )
