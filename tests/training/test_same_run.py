"""A run is resumed only as itself, and takes over what may change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from glam.errors import GlamError
from glam.training.cli import train
from glam.training.resume import apply_rates
from tests.training.test_run_end import arguments, photos

__all__ = ["photos"]

DrawImage = Callable[..., Image.Image]


@pytest.fixture
def run(photos: Path) -> Path:
    """A run of one epoch."""
    train(arguments(photos, "--trainer.max_epochs", "1"))
    return photos / "run"


def resume(run: Path, *more: str) -> Path:
    return train(arguments(run.parent, "--trainer.max_epochs", "2", "--resume", *more))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--model.backbone", "resnet14t"), "its backbone is resnet10t, not resnet14t"),
        (("--model.dim", "16"), "its dimension is 8, not 16"),
        (("--model.attention", "{name: glam, reduction: 8}"), "its attention is None"),
        (("--model.layer_decay", "0.5"), "its decay of the learning rate over the layers is 1.0, not 0.5"),
        (("--model.lora", "4"), "its rank of LoRA is None, not 4"),
        (("--model.pooling", "mean"), "its pooling is gem, not mean"),
        (("--model.loss", "NTXentLoss"), "its kind of loss is arcface, not NTXentLoss"),
        (("--model.optimizer", "sgd"), "its optimizer is adamw, not sgd"),
        (("--data.seed", "1"), "its seed is 0, not 1"),
        (("--teachers", "[other.safetensors]"), "its kind of loss is arcface, not distillation"),
    ],
    ids=str,
)
def test_another_run_is_refused(run: Path, more: tuple[str, ...], reason: str) -> None:
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(GlamError, match=f"holds another run: {reason}"):
        resume(run, *more)
    assert (run / "config.yaml").read_bytes() == before, "it says what ran"


def test_settings_are_compared_before_network_and_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of another backbone need not be there for it to be refused."""
    for name in ("module.DescriptorNetwork", "data.read_collection"):
        monkeypatch.setattr(f"glam.training.{name}", lambda *_, **__: pytest.fail("the work began"))
    for more in (("--model.backbone", "resnet18", "--model.pretrained", "true"), ("--model.dim", "16")):
        with pytest.raises(GlamError, match="holds another run"):
            resume(run, *more)
    with pytest.raises(GlamError, match="holds no run to resume"):
        resume(run, "--out", str(run.parent / "other"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("a landmark more", r"the training landmarks have changed \(from 3 to 4\)"),
        ("another landmark", r"the training landmarks have changed \(their names\)"),
        ("an image more", r"the training images have changed \(from 12 to 13\)"),
        ("another image", r"the training images have changed \(their names\)"),
        ("a validation image more", r"the validation images have changed \(from 12 to 13\)"),
    ],
)
def test_other_images_are_another_run(run: Path, change: str, reason: str) -> None:
    train_folder, val_folder = run.parent / "train", run.parent / "val"
    first = train_folder / "train 0" / "00.jpg"
    match change:
        case "a landmark more":
            shutil.copytree(train_folder / "train 0", train_folder / "more")
        case "another landmark":
            (train_folder / "train 0").rename(train_folder / "train x")
        case "an image more":
            shutil.copy(first, first.with_name("more.jpg"))
        case "another image":
            first.rename(first.with_name("other.jpg"))
        case "a validation image more":
            shutil.copy(first, val_folder / "val 0" / "more.jpg")
    with pytest.raises(GlamError, match=reason):
        resume(run)


def last_rates(run: Path) -> list[float]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return [group["initial_lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]]


def test_other_learning_rates_are_applied_and_recorded(run: Path) -> None:
    more = ("--model.lr", "0.01", "--model.new_lr", "0.02", "--model.weight_decay", "0.03", "--data.batch_size", "3")
    resume(run, *more)
    assert set(last_rates(run)) == {0.01, 0.02}
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert (recorded["model"]["lr"], recorded["data"]["batch_size"]) == (0.01, 3)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert {group["weight_decay"] for group in checkpoint["optimizer_states"][0]["param_groups"]} == {0.0, 0.03}


def test_the_schedule_goes_on_from_where_it_was_with_other_rates() -> None:
    saved = {"lr": 0.025, "initial_lr": 0.1, "weight_decay": 0.0}
    checkpoint = {"optimizer_states": [{"param_groups": [saved]}], "lr_schedulers": [{"base_lrs": [0.1]}]}
    apply_rates(checkpoint, [{"lr": 0.2, "weight_decay": 0.5}])
    assert saved == {"lr": 0.05, "initial_lr": 0.2, "weight_decay": 0.5}
    assert checkpoint["lr_schedulers"] == [{"base_lrs": [0.2]}]


@pytest.mark.parametrize("size", [0, 20, 50_000])
def test_a_damaged_checkpoint_falls_back_to_the_best_epoch(
    run: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:size])
    resume(run)
    said = capsys.readouterr()
    assert "last.ckpt cannot be read, so the run resumes from best.ckpt, step 3" in said.err
    assert "epoch 1/2" not in said.out
    assert "epoch 2/2" in said.out


def test_without_any_readable_checkpoint_there_is_nothing_to_resume(run: Path) -> None:
    for name in ("last", "best"):
        (run / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK damaged")
    with pytest.raises(GlamError, match=r"best\.ckpt cannot be read"):
        resume(run)


def test_images_that_are_in_both_sets_are_told_at_the_start(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The content counts, not the name."""
    shutil.copy(photos / "train" / "train 0" / "00.jpg", photos / "val" / "val 0" / "other name.jpg")
    train(arguments(photos, "--trainer.max_steps", "1"))
    assert "1 of the 13 validation images is also a training image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("data.batch_size", value) for value in ("0", "-1")),
        *(("data.crop", value) for value in ("0", "1.5")),
        *(("data.size", "0"), ("data.per_landmark", "0"), ("data.workers", "-1"), ("data.seed", "-1")),
        *(("data.max_unreadable", "1.1"), ("data.perspective", "1"), ("data.val_share", "-0.1")),
        *(("model.dim", "0"), ("model.stride", "7"), ("model.pooling", "{p: 0}"), ("model.dropout", "1")),
        *(("model.lr", "-1"), ("model.lr", ".nan"), ("model.warmup", "2"), ("model.attention", "{reduction: 0}")),
        *(("model.attention", "{unknown: 1}"), ("model.attention", "{name: cbam, unknown: 1}")),
        *(
            ("model.loss", value)
            for value in ("{margin: -1}", "{scale: 0}", "{unknown: 1}", "{name: triplet, margin: 0}")
        ),
        *(("model.layer_decay", "0"), ("model.ema", "1"), ("model.drop_path", "1"), ("model.lora", "0")),
        *(
            ("data.images_per_landmark", "1"),
            ("data.images_per_landmark", "3"),
            ("model.pooling", "null"),
            ("save_every", "0"),
            ("trainer.accumulate_grad_batches", "0"),
        ),
        *(("trainer.precision", value) for value in ("bf16-true", "16-true")),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named_in_one_sentence(photos: Path, option: str, value: str) -> None:
    with pytest.raises(GlamError, match=rf"--{option}\b"):
        train(arguments(photos, f"--{option}={value}"))
    assert not (photos / "run").exists()
