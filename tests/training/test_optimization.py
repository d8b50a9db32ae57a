"""LoRA, moving average of the weights, layer-wise learning rates, drop path, and the logger that a user names."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import glam
from glam.errors import GlamError
from glam.network import Architecture, DescriptorNetwork
from glam.training.checkpoints import read_checkpoint
from glam.training.cli import train
from glam.training.lora import ALPHA, add_lora, with_merged_lora
from glam.training.module import LandmarkModule
from glam.training.optimizer import parameter_groups
from glam.training.options import ModelOptions
from glam.training.weight_average import WeightAverage, averaged_weights

VIT = "vit_tiny_patch16_224"


def transformer() -> DescriptorNetwork:
    torch.manual_seed(0)
    return DescriptorNetwork(Architecture(VIT, dim=8, attention=None, pooling={"name": "cls"})).eval()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four landmarks of three views each."""
    root = tmp_path / "photos"
    for landmark in range(4):
        (root / str(landmark)).mkdir(parents=True)
        for view in range(3):
            pixels = np.random.default_rng([landmark, view]).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / str(landmark) / f"{view}.png")
    return root


def arguments(photos: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--data.train", str(photos), "--data.val", str(photos), "--data.size", "32", "--data.batch_size", "4"),
        *("--data.workers", "0", "--model.backbone", "resnet10t", "--model.pretrained", "false", "--model.dim", "8"),
        *("--model.start", "random", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
        *("--out", str(out), *more),
    ]


def test_lora_trains_low_rank_updates_of_the_projections_alone() -> None:
    network, images = transformer(), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        before = network(images)
    add_lora(network, 2, seed=0)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), before)  # B starts at zero
    trained = {name: p.shape for name, p in network.backbone.named_parameters() if p.requires_grad}
    assert len(trained) == 12 * 2 * 2, "A and B, of qkv and output, in 12 blocks"
    assert all(2 in shape and ".attn." in name for name, shape in trained.items())


def test_merged_lora_is_the_same_function_in_the_weights_of_the_network() -> None:
    network, images = transformer(), torch.randn(1, 3, 32, 32)
    names = sorted(network.state_dict())
    original = network.state_dict()["backbone.net.blocks.0.attn.qkv.weight"].clone()
    add_lora(network, 2, seed=0)
    update = network.backbone.net.blocks[0].attn.qkv.parametrizations.weight[0]
    for parameter in network.backbone.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    merged = with_merged_lora(network)
    assert sorted(merged.state_dict()) == names
    expected = original + ALPHA / 2 * update.b @ update.a
    torch.testing.assert_close(merged.state_dict()["backbone.net.blocks.0.attn.qkv.weight"], expected.detach())
    with torch.inference_mode():
        torch.testing.assert_close(merged(images), network(images), rtol=1e-4, atol=1e-5)
    assert with_merged_lora(merged) is merged


def test_a_run_with_lora_writes_a_plain_model_and_resumes(photos: Path, tmp_path: Path) -> None:
    options = ("--model.backbone", VIT, "--model.lora", "2", "--model.pooling", "cls", "--model.lr", "1e-2")
    train(arguments(photos, tmp_path / "run", *options, "--trainer.max_epochs", "1"))
    model = train(arguments(photos, tmp_path / "run", *options, "--resume"))
    names = glam.load(model, "cpu").network.state_dict()
    assert not any("parametrizations" in name for name in names)
    start = tmp_path / "frozen"
    train(arguments(photos, start, *options, "--model.lr", "0", "--trainer.max_steps", "1"))
    frozen = glam.load(start / "model.safetensors", "cpu").network.state_dict()
    changed = {name for name in names if name.startswith("backbone") and not torch.equal(names[name], frozen[name])}
    assert len(changed) == 24
    assert all(name.endswith(("attn.qkv.weight", "attn.proj.weight")) for name in changed)


def test_lora_does_not_apply_to_a_convolutional_network(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match=r"--model\.lora does not apply to resnet10t"):
        train(arguments(photos, tmp_path / "run", "--model.lora", "4"))


def test_the_model_has_the_moving_average_of_the_weights(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average of every step, computed here from the weights after each."""
    weights: list[torch.Tensor] = []
    add = WeightAverage.on_train_batch_end

    def recorded(self: WeightAverage, trainer: Any, module: Any, *arguments: Any) -> None:
        weights.append(module.network.head.linear.weight.detach().clone())
        add(self, trainer, module, *arguments)

    monkeypatch.setattr(WeightAverage, "on_train_batch_end", recorded)
    each = ("--trainer.limit_val_batches", "0", "--trainer.max_steps", "3", "--model.ema", "0.75", "--model.lr", "1e-2")
    model = train(arguments(photos, tmp_path / "run", *each))
    expected = weights[0]
    for later in weights[1:]:
        expected = 0.75 * expected + 0.25 * later
    found = glam.load(model, "cpu").network.state_dict()["head.linear.weight"]
    torch.testing.assert_close(found, expected)
    assert len(weights) == 3
    assert not torch.allclose(weights[2], expected, atol=1e-5)
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    torch.testing.assert_close(averaged_weights(checkpoint)["head.linear.weight"], expected)
    assert torch.equal(checkpoint["state_dict"]["network.head.linear.weight"], weights[2]), "training continues there"


def test_a_resumed_run_continues_the_average(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation uses the average, training the weights, so a broken run ends as an unbroken one."""
    options = ("--model.ema", "0.8", "--model.lr", "1e-2", "--save_every", "1")
    unbroken = train(arguments(photos, tmp_path / "a", *options))
    step = LandmarkModule.training_step

    def dying(self: LandmarkModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (1, 1):
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(LandmarkModule, "training_step", dying)
        with pytest.raises(SystemExit):
            train(arguments(photos, tmp_path / "b", *options))
    resumed = train(arguments(photos, tmp_path / "b", *options, "--resume"))
    assert glam.load(unbroken, "cpu").fingerprint == glam.load(resumed, "cpu").fingerprint


def test_the_learning_rate_decays_from_layer_to_layer() -> None:
    network = transformer()
    groups = parameter_groups(network, nn.Linear(2, 2), ModelOptions(lr=1.0, layer_decay=0.5, new_lr=3.0))
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    blocks = [rate[id(block.attn.qkv.weight)] for block in network.backbone.net.blocks]
    assert all(later == 2 * earlier for earlier, later in pairwise(blocks))
    assert rate[id(network.backbone.net.patch_embed.proj.weight)] == blocks[0] / 2
    assert rate[id(network.head.linear.weight)] == 3.0  # type: ignore[union-attr]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters())) + 2
    for group in groups:
        assert len({parameter.ndim > 1 for parameter in group["params"]}) <= 1


def test_drop_path_skips_branches_in_training_alone() -> None:
    torch.manual_seed(0)
    plain = transformer()
    network = DescriptorNetwork(plain.architecture, drop_path=0.5)
    network.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), plain.eval()(images))
        for module in network.modules():
            if type(module).__name__ == "DropPath":
                module.train()
        assert not torch.allclose(network(images), plain(images))


def test_a_network_without_residual_branches_has_no_drop_path() -> None:
    with pytest.raises(GlamError, match="'vgg11' has no residual branches to skip"):
        DescriptorNetwork(Architecture("vgg11"), drop_path=0.1)


@pytest.mark.parametrize(("logger", "folders"), [("null", {"csv", "tensorboard"}), ("false", set())])
def test_the_logger_is_the_one_of_the_user(photos: Path, tmp_path: Path, logger: str, folders: set[str]) -> None:
    train(arguments(photos, tmp_path / "run", "--trainer.logger", logger, "--trainer.max_steps", "1"))
    assert {path.name for path in (tmp_path / "run").iterdir()} & {"csv", "tensorboard"} == folders


def test_a_logger_of_lightning_is_used(photos: Path, tmp_path: Path) -> None:
    own = f"{{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {{save_dir: {tmp_path}, name: mine}}}}"
    train(arguments(photos, tmp_path / "run", "--trainer.logger", own, "--trainer.max_steps", "1"))
    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "run" / "csv").exists()
