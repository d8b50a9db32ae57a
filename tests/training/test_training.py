"""Training: loss, initialization, and a run that is killed and resumed."""

import csv
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from docstring_parser import parse
from PIL import Image
from safetensors.torch import load_file

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.inference.pipeline import Settings, describe_stream
from glam.network import Architecture, DescriptorNetwork
from glam.training.cli import train
from glam.training.configs import bundled_configs
from glam.training.losses.arcface import ArcFace
from glam.training.module import Batch, LandmarkModule, _without_statistics
from glam.training.options import DataOptions, ModelOptions
from glam.training.pca_init import Components, balanced_sample, pooled_features, start_from_pca
from glam.training.whitening import whiten_head

Draw = Callable[..., Image.Image]


def test_arcface_adds_the_margin_in_radians() -> None:
    loss = ArcFace(5, 4, margin=0.3, scale=20.0)
    descriptors, landmark_ids = F.normalize(torch.randn(6, 4), dim=1), torch.tensor([0, 1, 2, 3, 4, 0])
    cosines = descriptors @ F.normalize(loss.centers.detach(), dim=1).T
    logits = cosines.clone()
    for row, landmark_id in enumerate(landmark_ids):
        angle = math.acos(float(cosines[row, landmark_id]))
        logits[row, landmark_id] = (
            math.cos(angle + 0.3) if angle + 0.3 <= math.pi else math.cos(angle) - 0.3 * math.sin(0.3)
        )
    torch.testing.assert_close(
        loss(descriptors, landmark_ids), F.cross_entropy(20 * logits, landmark_ids), rtol=1e-4, atol=1e-4
    )


def test_arcface_stays_in_float32_under_autocast() -> None:
    loss = ArcFace(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(F.normalize(torch.randn(2, 4), dim=1).bfloat16(), torch.tensor([0, 1]))
    assert value.dtype == torch.float32


def test_a_center_on_its_only_image_has_a_finite_gradient() -> None:
    """The slope of the arc cosine at 1 is infinite."""
    loss = ArcFace(2, 4)
    descriptor = F.normalize(torch.randn(1, 4), dim=1).requires_grad_()
    loss.start_at_means(descriptor.detach(), torch.tensor([0]))
    loss(descriptor, torch.tensor([0])).backward()
    assert torch.isfinite(descriptor.grad).all()
    assert torch.isfinite(loss.centers.grad).all()


def test_components_are_the_principal_ones() -> None:
    rows = torch.randn(200, 6, dtype=torch.float64) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])
    components = Components.fit(rows.float(), 3)
    _, singular, vectors = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
    torch.testing.assert_close(components.variance, (singular[:3].square() / 200).float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((components.basis @ vectors[:3].T.float()).abs(), torch.eye(3), rtol=1e-3, atol=1e-3)


@pytest.fixture
def landmarks(tmp_path: Path, draw_image: Draw) -> Path:
    """Six landmarks of six noisy views each."""
    root = tmp_path / "landmarks"
    for landmark in range(6):
        (root / f"landmark {landmark}").mkdir(parents=True)
        view = np.asarray(draw_image(72, 56, landmark), dtype=np.int16)
        for i in range(6):
            noise = np.random.default_rng([landmark, i]).normal(0, 25, view.shape)
            Image.fromarray((view + noise).clip(0, 255).astype(np.uint8)).save(
                root / f"landmark {landmark}" / f"{i}.png"
            )
    return root


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_the_start_is_the_pca_asked_for(landmarks: Path, whitening: float) -> None:
    """The returned descriptors are those of the initialized network, and whitening equalizes their variance."""
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture("resnet10t", dim=8, attention=None)).eval()
    collection = read_folder(landmarks)
    settings = Settings(size=64)
    descriptors, landmark_ids = start_from_pca(
        network, collection, settings, whitening=whitening, max_images=1000, seed=0
    )
    items = ((collection.file(i), None) for i in range(len(collection)))
    again = np.stack([d.descriptor for d in describe_stream(network, items, settings) if d.descriptor is not None])
    np.testing.assert_allclose(again, descriptors.numpy(), atol=1e-4)  # of one size, so in the order of the collection
    assert torch.bincount(landmark_ids).tolist() == [6] * 6
    assert network.head.norm.running_var.std() < 1e-3 * network.head.norm.running_var.mean() or whitening < 1


@pytest.mark.parametrize("power", [0.0, 0.25, 1.0])
def test_the_end_divides_principal_components_by_a_power_of_their_spread(landmarks: Path, power: float) -> None:
    """The new output is the old one, not centered, projected on the components; power 0 changes no cosine."""
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture("resnet10t", dim=8, attention=None)).eval()
    collection, settings = read_folder(landmarks), Settings(size=64)
    start_from_pca(network, collection, settings, whitening=0.0, max_images=1000, seed=0)
    norm = network.head.norm
    with torch.no_grad():  # as after training
        norm.bias.add_(0.3 * norm.weight[0] * torch.randn(8))
        norm.weight.mul_(torch.linspace(0.5, 2, 8))
        norm.running_mean.add_(0.2 * norm.weight[0] * torch.randn(8))
        norm.running_var.mul_(torch.linspace(2, 1, 8))
    pooled, _ = pooled_features(network, collection, list(range(len(collection))), settings)
    with torch.no_grad():
        before = network.head(pooled).double()
        whiten_head(network, collection, settings, power=power, max_images=1000, seed=0)
        after = network.head(pooled).double()
    _, singular, vectors = torch.linalg.svd(before - before.mean(dim=0), full_matrices=False)
    wanted = before @ vectors.T / (singular / len(before) ** 0.5) ** power
    torch.testing.assert_close(after.abs(), wanted.abs(), rtol=2e-2, atol=2e-2 * float(wanted.abs().max()))
    cosines = [F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T for rows in (before, wanted, after)]
    torch.testing.assert_close(cosines[2], cosines[1], rtol=1e-3, atol=1e-3)
    assert (power == 0) == torch.allclose(cosines[2], cosines[0], atol=1e-3)


def test_an_end_that_cannot_be_is_one_sentence(landmarks: Path) -> None:
    collection, settings = read_folder(landmarks), Settings(size=64)
    for dim, sentence in ((None, "requires a descriptor layer"), (64, "requires more than 64 images; there are 36")):
        network = DescriptorNetwork(Architecture("resnet10t", dim=dim, attention=None)).eval()
        with pytest.raises(GlamError, match=sentence):
            whiten_head(network, collection, settings, power=0.25, max_images=1000, seed=0)


def test_a_run_whitens_what_it_writes(landmarks: Path, tmp_path: Path) -> None:
    """The model file has the whitened head of the best epoch; the checkpoint has the trained one."""
    models = [train(options(landmarks, tmp_path / power, "--model.end_whitening", power)) for power in ("0", "0.25")]
    plain, whitened = map(load_file, models)
    assert torch.equal(plain["backbone.net.conv1.0.weight"], whitened["backbone.net.conv1.0.weight"])
    assert not torch.equal(plain["head.linear.weight"], whitened["head.linear.weight"])
    torch.testing.assert_close(whitened["head.norm.running_var"], torch.ones(8))
    kept = [torch.load(tmp_path / power / "checkpoints" / "best.ckpt", weights_only=True) for power in ("0", "0.25")]
    assert torch.equal(*(found["state_dict"]["network.head.linear.weight"] for found in kept))


def test_a_few_images_are_drawn_evenly_over_the_landmarks(landmarks: Path) -> None:
    collection = read_folder(landmarks)
    assert np.bincount(collection.landmark_ids[balanced_sample(collection, 12, seed=0)]).tolist() == [2] * 6


def options(landmarks: Path, out: Path, *more: str) -> list[str]:
    """A run of a few seconds that uses all sources of randomness."""
    return [
        *("--data.train", str(landmarks), "--data.val_share", "0.34", "--data.size", "64", "--data.batch_size", "4"),
        *("--data.workers", "0", "--model.backbone", "resnet10t", "--model.pretrained", "false", "--model.dim", "8"),
        *(
            "--model.attention",
            "{name: glam, reduction: 8}",
            "--model.dropout",
            "0.2",
            "--model.freeze_batch_norm",
            "false",
        ),
        *("--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--save_every", "2", "--out", str(out), *more),
    ]


def last_metrics(out: Path) -> dict[str, str]:
    last = sorted((out / "csv").glob("version_*/metrics.csv"))[-1]
    rows = list(csv.DictReader(last.open()))
    return {key: row[key] for row in rows for key in ("val_map", "epoch_loss") if row.get(key)}


def last_checkpoint(out: Path) -> dict[str, Any]:
    return torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)  # type: ignore[no-any-return]


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    return last_checkpoint(out)["state_dict"]  # type: ignore[no-any-return]


def test_a_killed_run_resumes_as_if_never_stopped(landmarks: Path, tmp_path: Path) -> None:
    """After SIGKILL in the second epoch, the final weights are bit-identical to those of an uninterrupted run.

    One image is unreadable, so both runs have to choose the same substitute in each epoch.
    """
    cut = landmarks / "landmark 0" / "0.png"
    cut.write_bytes(cut.read_bytes()[:-2000])
    train(options(landmarks, tmp_path / "unbroken"))
    program = (
        "import os, signal, sys\n"
        "from glam.training import module\n"
        "step = module.LandmarkModule.training_step\n"
        "def dying(self, batch, i):\n"
        "    if self.current_epoch == 1 and i == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch, i)\n"
        "module.LandmarkModule.training_step = dying\n"
        "from glam.training.cli import train\n"
        "train(sys.argv[1:])\n"
    )
    arguments = options(landmarks, tmp_path / "broken")
    killed = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr[-2000:]
    reached = last_checkpoint(tmp_path / "broken")["LandmarkData"]
    assert reached["epoch"] == 1
    assert reached["parts"], "the run must have been cut within an epoch"
    train([*arguments, "--resume"])
    ours, expected = (last_weights(tmp_path / name) for name in ("broken", "unbroken"))
    assert all(torch.equal(ours[key], expected[key]) for key in expected)
    assert last_metrics(tmp_path / "broken") == last_metrics(tmp_path / "unbroken")


def test_every_epoch_has_its_own_order_and_views(
    landmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning has to find the sampler to set its epoch."""
    step, seen = LandmarkModule.training_step, []

    def watched(self: LandmarkModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        seen.append((self.current_epoch, batch[2].tolist(), batch[0][0].sum().item()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LandmarkModule, "training_step", watched)
    train(options(landmarks, tmp_path / "run"))
    orders = [[image for epoch, images, _ in seen if epoch == wanted for image in images] for wanted in range(3)]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert len({total for _, _, total in seen}) == len(seen), "views must not repeat from epoch to epoch"


def test_batches_of_one_step_draw_different_numbers(
    landmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If gradients are accumulated, the batches of one step draw dropout separately."""
    drawn: list[tuple[int, float]] = []
    forward = torch.nn.Dropout.forward

    def watched(self: torch.nn.Dropout, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            drawn.append((module[0].global_step, float(torch.rand(()))))
        return forward(self, x)

    step, module = LandmarkModule.training_step, []

    def noted(self: LandmarkModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        module[:] = [self]
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LandmarkModule, "training_step", noted)
    monkeypatch.setattr(torch.nn.Dropout, "forward", watched)
    train(options(landmarks, tmp_path / "run", "--trainer.accumulate_grad_batches", "3", "--trainer.max_epochs", "1"))
    assert len({number for number, _ in drawn}) < len(drawn)
    assert len({number for _, number in drawn}) == len(drawn)


def test_a_failed_step_leaves_the_batch_norms_training() -> None:
    """An example is running out of memory on a batch of one image."""
    head = DescriptorNetwork(Architecture("resnet10t", dim=8)).head.train()
    with _without_statistics(head):
        assert not head.norm.training
    with pytest.raises(MemoryError), _without_statistics(head):
        raise MemoryError
    assert head.norm.training


def test_an_earlier_run_is_not_overwritten(landmarks: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(GlamError, match="Add --resume"):
        train(options(landmarks, tmp_path / "run"))
    with pytest.raises(GlamError, match="no run to resume"):
        train(options(landmarks, tmp_path / "other", "--resume"))


def test_bundled_configurations_parse() -> None:
    """`glam train --config NAME --print_config` exits with code 0 for each of them."""
    assert {"demo", "lite0", "gldv2_r101"} <= bundled_configs().keys()
    for name in bundled_configs():
        with pytest.raises(SystemExit) as ended:
            train(["--config", name, "--data.train", "nowhere", "--print_config"])
        assert ended.value.code == 0


def test_every_option_is_on_the_command_line_under_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train(["--data.train", "nowhere", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    model, data = asdict(ModelOptions()), asdict(DataOptions())
    del model["seed"]  # linked to the seed of the data
    assert printed["model"] == {"backbone": "resnet101", "dim": 512, **model}
    assert printed["data"] == {"train": "nowhere", "val": None, "leave_out": None, **data}


@pytest.mark.parametrize("kind", [ModelOptions, DataOptions])
def test_the_help_explains_every_option(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train(["--help"])
    shown = "".join(capsys.readouterr().out.split())
    described = {param.arg_name: "".join((param.description or "").split()) for param in parse(kind.__doc__).params}
    assert list(described) == [field.name for field in fields(kind)]
    assert all(text and text in shown for name, text in described.items() if (kind, name) != (ModelOptions, "seed"))


@pytest.mark.parametrize("options", [{"learning_rate": 1e-4}, {"size": 64}], ids=str)
def test_a_module_refuses_an_option_that_it_does_not_have(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        LandmarkModule("resnet10t", 8, pretrained=False, **options)


def test_training_wants_landmarks(tmp_path: Path) -> None:
    with pytest.raises(GlamError):
        train(["--config", "demo", "--data.train", str(tmp_path / "nowhere")])


def test_frozen_batch_norms_stay_frozen() -> None:
    """They stay frozen if the module is set to training mode within an epoch, as on resuming."""
    module = LandmarkModule("resnet10t", 8, pretrained=False).train()
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert module.network.head.dropout.training
