"""GLAM inside other people's networks: what they attach to its modules takes effect, as on any module."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from glam import GLAM, GeM, attend_and_pool
from glam.kernels import use_form


def features(seed: int = 0) -> Tensor:
    return torch.randn(2, 16, 5, 6, generator=torch.Generator().manual_seed(seed))


def convolutions(glam: GLAM) -> dict[str, nn.Module]:
    return {name: m for name, m in glam.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d)}


def pruned(conv: nn.Module) -> None:
    prune.random_unstructured(conv, "weight", 0.5)  # type: ignore[no-untyped-call]


def weight_norm(conv: nn.Module) -> None:
    with warnings.catch_warnings(action="ignore"):  # the hook form is deprecated, and in use
        torch.nn.utils.weight_norm(conv)


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "prune": pruned,
    "weight_norm": weight_norm,
    "spectral_norm": torch.nn.utils.spectral_norm,
    "parametrization": parametrizations.weight_norm,
}


class LowRank(nn.Module):
    """A convolution plus a learned change of low rank, as LoRA wraps it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.down = nn.Conv2d(conv.in_channels, 2, 1, bias=False)
        self.up = nn.Conv2d(2, conv.out_channels, 1, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.conv.weight

    @property
    def bias(self) -> Tensor | None:
        return self.conv.bias

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) + self.up(self.down(x))
        return out


@pytest.mark.parametrize("options", [{}, {"local_norm": True}], ids=str)
def test_forward_hooks_of_every_convolution_fire(options: dict[str, Any]) -> None:
    glam = GLAM(16, 4, **options)
    expected = glam(features())
    fired: list[str] = []
    for name, conv in convolutions(glam).items():
        conv.register_forward_hook(lambda *_, name=name: fired.append(name))
    torch.testing.assert_close(glam(features()), expected, atol=1e-5, rtol=1e-5)
    assert sorted(fired) == sorted(convolutions(glam))


def test_hooks_of_all_modules_fire() -> None:
    """What FLOP counters register."""
    glam, called = GLAM(16, 4), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: called.append(module))
    try:
        glam(features())
    finally:
        handle.remove()
    assert all(any(conv is module for module in called) for conv in convolutions(glam).values())


@pytest.mark.parametrize("name", CHANGES)
def test_every_weight_learns_under_a_changed_weight(name: str) -> None:
    torch.manual_seed(0)
    glam = GLAM(16, 4)
    with torch.no_grad():
        for conv in convolutions(glam).values():
            if isinstance(conv, nn.Conv2d):
                CHANGES[name](conv)
    before = copy.deepcopy(dict(glam.named_parameters()))
    optimizer = torch.optim.SGD(glam.parameters(), 0.1)
    for step in range(3):
        optimizer.zero_grad()
        glam(features(step)).square().mean().backward()
        optimizer.step()
    keys = "global_spatial.key.bias"  # adds the same to all logits of a query, so it has no gradient
    same = [n for n, p in glam.named_parameters() if torch.equal(p, before[n]) and n != keys]
    assert same == []


@pytest.mark.parametrize("form", ["auto", "triton"])
@pytest.mark.parametrize("name", ["reduce", "point", "merge"])
def test_a_wrapper_in_the_place_of_a_convolution_is_called(name: str, form: Any) -> None:
    torch.manual_seed(0)
    glam, pool = GLAM(16, 4), GeM()
    before = pool(glam(features()))
    setattr(glam.local_spatial, name, LowRank(getattr(glam.local_spatial, name)))
    with use_form(form), torch.no_grad():
        pooled, fused = pool(glam(features())), attend_and_pool(glam, pool, features())
    assert not torch.allclose(pooled, before, atol=1e-5)
    torch.testing.assert_close(fused, pooled)


@pytest.mark.parametrize(
    "change",
    [
        {"bias": True},
        {"groups": 4},
        {"padding_mode": "circular", "padding": 1, "kernel_size": 3},
    ],
    ids=str,
)
def test_another_convolution_in_its_place_is_called(change: dict[str, Any]) -> None:
    torch.manual_seed(0)
    glam = GLAM(16, 4)
    assert glam.local_spatial is not None
    glam.local_spatial.point = nn.Conv2d(4, 4, **{"kernel_size": 1, "bias": False, **change})
    torch.testing.assert_close(glam.local_spatial(features()), glam.local_spatial.as_drawn(features()))


def test_a_channel_convolution_with_a_bias_is_called() -> None:
    glam = GLAM(16, 4)
    assert glam.local_channel is not None
    before = glam.local_channel(features())
    conv = nn.Conv1d(1, 1, 3, padding=1)
    conv.weight = glam.local_channel.conv.weight
    glam.local_channel.conv = conv
    torch.testing.assert_close(glam.local_channel(features()).logit(), before.logit() + conv.bias, atol=1e-4, rtol=1e-4)


def test_a_forward_set_on_a_module_is_called() -> None:
    """How accelerate offloads weights."""
    glam = GLAM(16, 4)
    called, conv = [], glam.local_spatial.reduce
    forward = conv.forward
    conv.forward = lambda x: (called.append(x), forward(x))[1]
    glam(features())
    assert len(called) == 1


@pytest.mark.parametrize("part", ["", "local_channel", "local_spatial", "global_channel", "global_spatial.query"])
def test_hooks_fire_in_the_fused_form(part: str) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    glam, pool, fired = GLAM(16, 4), GeM(), []
    expected = pool(glam(features()))
    glam.get_submodule(part).register_forward_pre_hook(lambda *_: fired.append(part))
    with use_form("triton"):
        torch.testing.assert_close(attend_and_pool(glam, pool, features()), expected)
    assert fired == [part]
    pool.register_forward_hook(lambda *_: fired.append("pool"))
    with use_form("triton"):
        attend_and_pool(glam, pool, features())
    assert fired == [part, part, "pool"]


def test_an_unmodified_module_reads_its_weights_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path stays: the branch is folded, and no convolution of width r runs over the map."""
    glam = GLAM(16, 4, global_spatial=False)
    assert glam.is_unmodified()
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: pytest.fail("called"))
    glam(features())


def test_subclasses_run_their_own_forward() -> None:
    class Doubled(GLAM):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    glam, pool = Doubled(16, 4), GeM()
    with use_form("triton"):
        torch.testing.assert_close(attend_and_pool(glam, pool, features()), pool(glam(features())))


def test_forward_on_the_meta_device_gives_the_shape() -> None:
    glam, pool = GLAM(16, 4, device="meta"), GeM(device="meta")
    assert all(p.device.type == "meta" for p in (*glam.parameters(), *pool.parameters()))
    assert glam(features().to("meta")).shape == (2, 16, 5, 6)
    assert attend_and_pool(glam, pool, features().to("meta")).shape == (2, 16)


def test_parameters_have_the_dtype_asked_for() -> None:
    glam = GLAM(16, 4, local_norm=True, dtype=torch.float64)
    assert {p.dtype for p in glam.parameters()} == {torch.float64}
    assert glam(features().double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "options"),
    [((0,), {}), ((8,), {"reduction": 0}), ((8, 4, (1, 0)), {}), ((8, 4), {"kernel_size": 2})],
    ids=str,
)
def test_sizes_that_cannot_work_are_refused(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        GLAM(*arguments, **options)


def test_replacing_a_convolution_refreshes_the_cached_weights() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    torch.manual_seed(0)
    glam, pool = GLAM(16, 4), GeM()
    with torch.no_grad(), use_form("triton"):
        attend_and_pool(glam, pool, features())
        glam.global_spatial.output = nn.Conv2d(4, 16, 1)
        torch.testing.assert_close(attend_and_pool(glam, pool, features()), pool(glam(features())))


@pytest.mark.parametrize("width", [512, 520])
def test_rows_too_wide_for_the_kernel_take_the_general_form(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from glam.kernels import _attention, spatial_attention, spatial_attention_dense

    device = "cuda" if torch.cuda.is_available() else "cpu"  # where the kernel runs, compiled or interpreted
    query, key, value = torch.randn(3, 1, 4, width, device=device).mul(0.1)
    ran = []
    forward = _attention.forward
    monkeypatch.setattr(_attention, "forward", lambda *rows: (ran.append(width), forward(*rows))[1])
    with use_form("triton"), torch.no_grad():
        mixed = spatial_attention(query, key, value)
    torch.testing.assert_close(mixed, spatial_attention_dense(query, key, value), atol=1e-3, rtol=1e-3)
    assert ran == ([width] if width <= 512 else [])
