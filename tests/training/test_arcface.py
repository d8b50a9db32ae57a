"""ArcFace against pytorch-metric-learning, sharded over processes with equal loss and gradients, and checkpoints."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from pytorch_metric_learning import losses
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glam.training.losses.arcface import ArcFace, change_centers, upgrade_centers

LANDMARKS, DIM, BATCHES = 7, 5, (4, 3)
"""Sizes for two processes: one batch is not full, and the landmarks cannot be divided evenly."""


def images() -> tuple[Tensor, Tensor]:
    """(7, 5) features of the images of both processes, and their landmark ids."""
    features = torch.randn(sum(BATCHES), DIM, generator=torch.Generator().manual_seed(3))
    return features, torch.tensor([0, 6, 2, 2, 5, 1, 3])


def centers() -> Tensor:
    return torch.randn(LANDMARKS, DIM, generator=torch.Generator().manual_seed(4))


def in_two_processes(work: Callable[[int], dict[str, Tensor]], folder: Path) -> list[dict[str, Tensor]]:
    """Calls a function of the rank in each of two processes of a group, and returns its results."""
    mp.start_processes(_process, (work, folder), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _process(rank: int, work: Callable[[int], dict[str, Tensor]], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(work(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()


def stepped(rank: int) -> dict[str, Tensor]:
    """One forward and backward pass of a process, with gradients averaged as by `DistributedDataParallel`."""
    loss = ArcFace(LANDMARKS, DIM, scale=20.0, sharded=True, batch_size=max(BATCHES))
    loss.load_state_dict({"centers": centers()})
    features, landmark_ids = (part.split(BATCHES)[rank] for part in images())
    features.requires_grad_()
    value = loss(F.normalize(features, dim=1), landmark_ids)
    value.backward()
    assert features.grad is not None
    assert loss.centers.grad is not None
    return {
        "loss": value.detach(),
        "features": features.grad / 2,
        "centers": loss.centers.grad,
        "whole": loss.gather(loss.centers),
    }


def test_two_processes_get_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    first, second = in_two_processes(stepped, tmp_path)
    unsharded = ArcFace(LANDMARKS, DIM, scale=20.0)
    unsharded.load_state_dict({"centers": centers()})
    features, landmark_ids = images()
    features.requires_grad_()
    value = unsharded(F.normalize(features, dim=1), landmark_ids)
    value.backward()
    for part in (first, second):
        torch.testing.assert_close(part["loss"], value.detach())
        assert torch.equal(part["whole"], centers())
    torch.testing.assert_close(torch.cat([first["features"], second["features"]]), features.grad)
    torch.testing.assert_close(torch.cat([first["centers"], second["centers"]]), unsharded.centers.grad)


def drawn(rank: int) -> dict[str, Tensor]:
    return {"centers": ArcFace(LANDMARKS, DIM, sharded=True, batch_size=4, seed=1).centers.detach()}


def test_processes_draw_different_centers(tmp_path: Path) -> None:
    centers_of_all = torch.cat([part["centers"] for part in in_two_processes(drawn, tmp_path)])
    assert centers_of_all.shape == (LANDMARKS, DIM)
    assert len(centers_of_all.unique(dim=0)) == LANDMARKS


@pytest.mark.parametrize("sharded", [False, True])
def test_in_one_process_it_is_the_librarys_loss(sharded: bool) -> None:
    features, landmark_ids = images()
    loss = ArcFace(LANDMARKS, DIM, margin=0.3, scale=20.0, sharded=sharded, batch_size=10)
    library = losses.ArcFaceLoss(LANDMARKS, DIM, margin=math.degrees(0.3), scale=20.0)
    library.W.data = loss.centers.detach().T.contiguous()
    value, expected = (module(F.normalize(features, dim=1), landmark_ids) for module in (loss, library))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    value.backward()
    expected.backward()
    torch.testing.assert_close(loss.centers.grad, library.W.grad.T, rtol=1e-4, atol=1e-5)


def test_a_landmark_with_images_starts_at_their_mean() -> None:
    features, landmark_ids = images()
    loss = ArcFace(LANDMARKS, DIM)
    before = loss.centers.detach().clone()
    loss.start_at_means(features, landmark_ids)
    torch.testing.assert_close(loss.centers[2].detach(), F.normalize(features[2] + features[3], dim=0))
    assert torch.equal(loss.centers[4], before[4]), "landmark 4 has no image"


def replicated(rank: int) -> dict[str, Tensor]:
    return {"centers": ArcFace(LANDMARKS, DIM, seed=1).centers.detach()}


class GpuByDefault(TorchFunctionMode):
    """Refuses random numbers from a CPU generator, as a GPU does if it is the default device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert kwargs.get("generator") is None or kwargs.get("device") == "cpu", "a CPU generator for another device"
        return func(*args, **kwargs)


def test_centers_are_drawn_on_the_cpu_whatever_the_default_device() -> None:
    """A run on a GPU makes it the default device in `configure_model`."""
    with GpuByDefault():
        ArcFace(LANDMARKS, DIM)
    with torch.device("meta"):
        assert ArcFace(LANDMARKS, DIM).centers.device.type == "meta"


def test_unsharded_every_process_holds_all_centers(tmp_path: Path) -> None:
    first, second = in_two_processes(replicated, tmp_path)
    assert first["centers"].shape == (LANDMARKS, DIM)
    assert torch.equal(first["centers"], second["centers"])


@pytest.mark.parametrize("cosine", [-1.0, -0.97, 0.0, 1.0])
def test_the_margin_makes_every_cosine_smaller(cosine: float) -> None:
    value = torch.tensor([cosine], requires_grad=True)
    widened = ArcFace(2, 2, margin=0.3).margin.modify_cosine_of_target_classes(value)
    assert widened < value
    widened.backward()
    assert torch.isfinite(value.grad).all()


@pytest.mark.parametrize(("former", "transposed"), [("centres", False), ("loss.W", True), ("centers", False)])
def test_centers_of_earlier_versions_are_loaded(former: str, transposed: bool) -> None:
    """The weights of pytorch-metric-learning are (dim, landmarks), and so is their optimizer state."""
    matrix = centers().T.contiguous() if transposed else centers()
    loss = ArcFace(LANDMARKS, DIM)
    loss.load_state_dict({former: matrix})
    assert torch.equal(loss.centers, centers())
    state = {0: {"exp_avg": torch.ones(3, 2)}, 1: {"exp_avg": 2 * matrix, "step": torch.tensor(4.0)}}
    checkpoint: dict[str, Any] = {"state_dict": {f"loss.{former}": matrix}, "optimizer_states": [{"state": state}]}
    upgrade_centers(checkpoint, "loss.", 1)
    assert list(checkpoint["state_dict"]) == ["loss.centers"]
    assert torch.equal(checkpoint["state_dict"]["loss.centers"], centers())
    upgraded = checkpoint["optimizer_states"][0]["state"]
    assert torch.equal(upgraded[1]["exp_avg"], 2 * centers())
    assert (upgraded[1]["step"], upgraded[0]["exp_avg"].shape) == (4, (3, 2))


def test_a_checkpoint_is_changed_and_the_optimizer_is_not() -> None:
    center, other = (torch.nn.Parameter(torch.randn(4, 3)) for _ in range(2))
    optimizer = torch.optim.SGD([other, center], momentum=0.9, lr=0.1)
    (center.sum() + other.sum()).backward()
    optimizer.step()
    checkpoint: dict[str, Any] = {"state_dict": {"a.centers": center}, "optimizer_states": [optimizer.state_dict()]}
    change_centers(checkpoint, "a.centers", 1, lambda centers_of_all: centers_of_all[:2])
    buffers = [checkpoint["optimizer_states"][0]["state"][i]["momentum_buffer"] for i in range(2)]
    assert [len(checkpoint["state_dict"]["a.centers"]), *map(len, buffers)] == [2, 4, 2]
    assert len(optimizer.state[center]["momentum_buffer"]) == 4
