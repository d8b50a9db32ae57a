"""Mean loss of an epoch: weights, resuming, and no wait for the device in a step."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from glam.training.divergence import StopIfDiverged
from glam.training.epoch_loss import EpochLoss


def test_each_image_has_the_same_weight() -> None:
    loss = EpochLoss()
    loss.update(torch.tensor(1.0), 3)
    loss.update(torch.tensor(5.0), 1)
    assert loss.compute().item() == 2


def test_a_restored_state_continues() -> None:
    unbroken, before, after = EpochLoss(), EpochLoss(), EpochLoss()
    before.update(torch.tensor(4.0), 2)
    after.restore(before.so_far())
    unbroken.update(torch.tensor(4.0), 2)
    for loss in (unbroken, after):
        loss.update(torch.tensor(1.0), 8)
    assert after.compute() == unbroken.compute()
    after.reset()
    assert after.so_far().tolist() == [0, 0]


def _epoch_loss(device: str) -> Callable[[Tensor], None]:
    metric = EpochLoss().to(device)
    return lambda loss: metric.update(loss, 64)


def _divergence(device: str) -> Callable[[Tensor], None]:
    callback, trainer = StopIfDiverged(save_every=10), SimpleNamespace(global_step=3)
    return lambda loss: callback.on_train_batch_end(trainer, torch.nn.Identity(), {"loss": loss}, None, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", [_epoch_loss, _divergence])
def test_a_step_does_not_wait_for_the_device(
    part: Callable[[str], Callable[[Tensor], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A meta tensor has no values, so reading one raises; values of the host would get to a device by these functions.
    step = part("meta")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a host value is copied to the device, and PyTorch waits for such copies")

    loss = torch.zeros((), device="meta")
    for name in ("as_tensor", "tensor"):
        monkeypatch.setattr(torch, name, refuse)
    step(loss)
    step(loss)
