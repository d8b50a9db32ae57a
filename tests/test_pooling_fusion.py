"""GLAM with GeM in one, by Triton kernels: values and every gradient against the plain form in float64.

On a GPU the kernels run as compiled; without one Triton's interpreter runs them on the CPU.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from glam import GLAM, GeM
from glam.kernels import use_form
from glam.pooling_fusion import attend_and_pool

pytest.importorskip("triton", reason="Triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {
    torch.float32: 1e-5,
    torch.bfloat16: 1e-2 if DEVICE == "cuda" else 2e-2,
}  # the interpreter cuts bfloat16 off

SHAPES = [(2, 24, 7, 33), (1, 16, 1, 1), (3, 40, 5, 4)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"dilations": (1, 2, 3), "kernel_size": 5},
    {"local_norm": True, "local_activation": True},
    {"local_channel": False},
    {"local_spatial": False},
    {"global_channel": False},
    {"global_spatial": False},
    {"local_channel": False, "local_spatial": False},
    {"global_channel": False, "global_spatial": False},
]


def results(glam: GLAM, pool: GeM, features: Tensor, weights: Tensor, form: Any) -> dict[str, Tensor]:
    """The pooled features, and the gradients of their weighted sum with respect to the features and each parameter."""
    features = features.detach().requires_grad_()
    parameters = dict(glam.named_parameters()) | {"p": pool.p}
    with use_form(form):
        out = attend_and_pool(glam, pool, features) if form == "triton" else pool(glam(features))
    gradients = torch.autograd.grad((out * weights).sum(), [features, *parameters.values()], allow_unused=True)
    found = zip(["features", *parameters], gradients, strict=True)
    return {"out": out} | {name: g for name, g in found if g is not None}


def assert_close(glam: GLAM, features: Tensor) -> None:
    """Norm of the difference over the norm, for the output and each gradient."""
    dtype = features.dtype
    pool = GeM().to(DEVICE)
    exact, exact_pool = copy.deepcopy(glam).double(), copy.deepcopy(pool).double()
    weights = torch.randn(features.shape[:2], device=DEVICE)
    found = results(glam, pool, features, weights, "triton")
    plain = results(copy.deepcopy(glam).to(dtype), pool, features, weights, "plain")
    wanted = results(exact, exact_pool, features.double(), weights.double(), "plain")
    assert found.keys() == wanted.keys()
    whole = wanted["features"].norm()
    for name, expected in wanted.items():
        error, plain_error = (float((x[name].double() - expected).norm().detach()) for x in (found, plain))
        if expected.norm() < 1e-6 * whole:  # nothing, as for a key's bias: rounding stays, which has no relative error
            assert error < TOLERANCE[dtype] * whole, f"{name}: {error:.1e}"
            continue
        # A small gradient is a difference of large numbers; the plain form in this precision is hardly better.
        bound = max(TOLERANCE[dtype] * max(expected.norm(), 0.01 * whole), 2 * plain_error)
        assert error < bound, f"{name}: {error:.1e} of {expected.norm():.1e}, plain {plain_error:.1e}"


def random_features(shape: tuple[int, ...]) -> Tensor:
    """What a backbone's last activation gives: nothing below 0, and channels of very different strength."""
    return torch.randn(shape, device=DEVICE).relu() * (0.2 + 2 * torch.rand(*shape[:2], 1, 1, device=DEVICE))


def random_glam(channels: int, reduction: int, dtype: torch.dtype, **options: Any) -> GLAM:
    """A module with random weights whose attentions all matter, in values that ``dtype`` holds exactly."""
    glam = GLAM(channels, reduction, **options)
    with torch.no_grad():
        for parameter in glam.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
            parameter.copy_(parameter.to(dtype).float())
    return glam.to(DEVICE)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients_for_every_option(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    features = random_features((2, 24, 6, 5))
    assert_close(random_glam(24, 8, torch.float32, **options), features)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", [8, 12])
@pytest.mark.parametrize("seed", range(2))
def test_values_and_gradients_for_any_shape(shape: tuple[int, ...], reduction: int, seed: int) -> None:
    torch.manual_seed(seed)
    assert_close(random_glam(shape[1], reduction, torch.float32), random_features(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    features = random_features(shape).bfloat16()
    assert_close(random_glam(shape[1], 8, torch.bfloat16), features)


def test_weights_kept_between_calls_follow_the_parameters() -> None:
    torch.manual_seed(0)
    glam, pool, features = random_glam(16, 8, torch.float32), GeM().to(DEVICE), random_features((1, 16, 3, 4))
    with torch.no_grad(), use_form("triton"):
        for change in (lambda: None, lambda: glam.fusion.add_(1), lambda: setattr(glam, "local_channel", None)):
            change()
            torch.testing.assert_close(attend_and_pool(glam, pool, features), pool(glam(features)))
        pool.load_state_dict({"p": torch.tensor(2.0)})
        torch.testing.assert_close(attend_and_pool(glam, pool, features), pool(glam(features)))
