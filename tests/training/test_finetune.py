"""Fine-tuning: its start, the comparison with the start, and a result that is never worse."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

import glam
from glam import GlamError
from glam.datasets.readers import read_folder
from glam.eval.folder import score_folder
from glam.model_file import ModelHeader, fingerprint, save
from glam.network import Architecture, DescriptorNetwork
from glam.training import run_end
from glam.training.arguments import OptionError
from glam.training.cli import train
from glam.training.finetune import Comparison, compare_models
from glam.training.module import Batch, LandmarkModule


@pytest.fixture
def landmarks(tmp_path: Path, draw_image: Callable[..., Image.Image]) -> Path:
    """Seven landmarks of five noisy views each."""
    for landmark in range(7):
        path = tmp_path / "landmarks" / f"landmark {landmark}"
        path.mkdir(parents=True)
        view = np.asarray(draw_image(72, 56, landmark), dtype=np.int16)
        for i in range(5):
            noise = np.random.default_rng([landmark, i]).normal(0, 60, view.shape)
            Image.fromarray((view + noise).clip(0, 255).astype(np.uint8)).save(path / f"{i}.png")
    return tmp_path / "landmarks"


def small_model(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = DescriptorNetwork(Architecture("resnet10t", dim=8, attention={"name": "glam", "reduction": 8})).eval()
    save(path, network, ModelHeader(network.architecture, size=64, scales=(1.0, 0.7), training={"data": "before"}))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A model file to start from."""
    return small_model(tmp_path / "start.safetensors", seed=0)


def options(landmarks: Path, start: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--config", "finetune", "--weights", str(start), "--data.train", str(landmarks), "--data.size", "64"),
        *("--data.batch_size", "8", "--data.workers", "0", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
        *("--out", str(out), *more),
    ]


def test_a_run_starts_from_the_model(
    landmarks: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has the weights and the size of the model, and each center is the mean of its landmark's descriptors."""
    seen = []

    def watched(self: LandmarkModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if not seen:
            seen.append((fingerprint(self.network), self.data, self.loss.centers.detach().clone()))
        return step(self, batch, batch_idx)

    step = LandmarkModule.training_step
    monkeypatch.setattr(LandmarkModule, "training_step", watched)
    train(options(landmarks, start, tmp_path / "run"))
    model = glam.load(start, "cpu")
    weights, data, centers = seen[0]
    assert (weights, data.val_size) == (model.fingerprint, 64)
    descriptors = model.describe([data.train.file(i) for i in range(len(data.train))], scales=(1.0,))
    means = [
        descriptors[data.train.landmark_ids == landmark_id].mean(axis=0)
        for landmark_id in range(len(data.train.landmarks))
    ]
    torch.testing.assert_close(F.normalize(torch.tensor(np.array(means)), dim=1), centers, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("lr", "said"), [("0", "did not help"), ("10", "diverged")])
def test_a_training_that_does_not_help_leaves_the_start(
    landmarks: Path, start: Path, tmp_path: Path, lr: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run changes nothing, and one ends in NaN."""
    options_ = options(landmarks, start, tmp_path / "run", "--model.lr", lr, "--model.new_lr", lr)
    kept = glam.load(train([*options_, "--model.optimizer", "sgd"]), "cpu")
    assert kept.fingerprint == glam.load(start, "cpu").fingerprint
    assert kept.header == glam.load(start, "cpu").header
    assert said in capsys.readouterr().out


def test_a_training_that_helps_is_kept_and_says_what_it_brought(
    landmarks: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is made with another network instead of the start, and is forced to favor the result."""
    other = glam.load(small_model(tmp_path / "other.safetensors", seed=1), "cpu")
    monkeypatch.setattr(run_end, "compare_models", lambda before, after, *rest: compare_models(other, after, *rest))
    monkeypatch.setattr(Comparison, "better", True)
    kept = glam.load(train(options(landmarks, start, tmp_path / "run")), "cpu")
    assert kept.fingerprint != glam.load(start, "cpu").fingerprint
    assert (kept.size, kept.scales) == (64, (1.0, 0.7))
    assert kept.header.training["comparison"] == json.loads((tmp_path / "run" / "comparison.json").read_text())


def test_a_gain_is_the_mean_difference_of_ap_over_held_out_images(landmarks: Path, tmp_path: Path) -> None:
    everything = read_folder(landmarks)
    held_out = everything.filter(lambda image: image.landmark[-1] in "012")
    others = everything.filter(lambda image: image.landmark[-1] not in "012")
    models = [glam.load(small_model(tmp_path / f"{seed}.safetensors", seed), "cpu") for seed in (2, 3)]
    found = compare_models(*models, held_out, others)
    ap = []
    for model in models:
        descriptors, rest = (model.describe([part.file(i) for i in range(len(part))]) for part in (held_out, others))
        ap.append(score_folder(descriptors, held_out.landmark_ids, rest).ap)
    assert found.gain.mean == pytest.approx(np.mean(ap[1] - ap[0]))
    by_landmark = (ap[1] - ap[0]).reshape(3, 5).mean(axis=1)
    assert (
        by_landmark.min() - 1e-9
        <= found.gain.interval[0]
        <= found.gain.mean
        <= found.gain.interval[1]
        <= by_landmark.max() + 1e-9
    )
    assert (found.gain.landmarks, found.before.distractors) == (3, 20)


@pytest.mark.parametrize("given", ["command line", "configuration"])
@pytest.mark.parametrize(
    ("option", "value", "own"),
    [
        ("backbone", "resnet14t", "resnet10t"),
        ("backbone", "resnet101", "resnet10t"),
        ("dim", "16", "8"),
        ("attention", "{reduction: 4}", '{"name": "glam", "reduction": 8}'),
        ("attention", "null", '{"name": "glam", "reduction": 8}'),
        ("attention", "se", '{"name": "glam", "reduction": 8}'),
        ("pooling", "{p: 2.0}", '{"name": "gem"}'),
        ("pooling", "mean", '{"name": "gem"}'),
        ("drop_path", "0.1", "0.0"),
        ("dropout", "0.5", "0.0"),
        ("stride", "16", "null"),
        ("pretrained", "true", "false"),
        ("pretrained", "weights.pth", "false"),
        ("start", "pca", "random"),
        ("whitening", "0.5", "0.0"),
        ("input_weight", "0.9", "null"),
    ],
)
def test_an_option_that_the_model_sets_otherwise_is_refused_before_the_work(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, option: str, value: str, own: str
) -> None:
    monkeypatch.setattr("glam.training.cli.load", lambda *_: pytest.fail("the weights were loaded"))
    more = ["--model." + option, value]
    if given == "configuration":
        (tmp_path / "mine.yaml").write_text(f"model:\n  {option}: {value}\n")
        more = ["--config", str(tmp_path / "mine.yaml")]
    with pytest.raises(OptionError) as raised:
        train(options(tmp_path / "nowhere", start, tmp_path / "run", *more))
    sentence = str(raised.value)
    assert sentence.startswith(f"--model.{option} ")
    assert f"does not apply to --weights {start}, which sets it to {own}. Leave it out, or train" in sentence
    assert not (tmp_path / "run").exists()


def test_options_of_a_bundled_configuration_give_way_to_the_model(landmarks: Path, start: Path, tmp_path: Path) -> None:
    train(
        options(
            landmarks,
            start,
            tmp_path / "run",
            "--config",
            "lite0",
            "--trainer.max_epochs",
            "1",
            "--data.size",
            "64",
            "--data.batch_size",
            "8",
        )
    )
    ran = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]
    own = glam.load(str(start), "cpu").network.architecture
    assert (ran["backbone"], ran["start"], ran["loss"]["scale"]) == (own.backbone, "random", 15)
    with pytest.raises(OptionError, match=r"--model\.backbone resnet18 does not apply"):
        train(options(landmarks, start, tmp_path / "other", "--config", "lite0", "--model.backbone", "resnet18"))


def test_a_resumed_run_refuses_such_an_option_too(landmarks: Path, start: Path, tmp_path: Path) -> None:
    train(options(landmarks, start, tmp_path / "run"))
    with pytest.raises(OptionError, match=r"--model\.dim 16 does not apply"):
        train(options(landmarks, start, tmp_path / "run", "--resume", "--model.dim", "16"))


def test_the_configuration_says_what_ran_and_is_accepted_again(
    landmarks: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed run may repeat all options, by the file and on the command line."""
    run = tmp_path / "run"
    train(
        options(
            landmarks, start, run, "--model.backbone", "resnet10t", "--model.attention", "{name: glam, reduction: 8}"
        )
    )
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    expected = {"backbone": "resnet10t", "dim": 8, "attention": {"name": "glam", "reduction": 8}, "dropout": 0.0}
    expected |= {"stride": None, "pretrained": False, "start": "random", "whitening": 0.0, "input_weight": None}
    assert {name: model[name] for name in expected} == expected
    capsys.readouterr()
    train(["--config", str(run / "config.yaml"), "--trainer.max_epochs", "2", "--model.dim", "8", "--resume"])
    changes = [line for line in capsys.readouterr().err.splitlines() if "is resumed with" in line]
    assert changes == ["the run is resumed with --trainer.max_epochs 2 in place of 1"]


def test_a_backbone_of_timm_is_compared_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glam.training.cli.load", lambda *_: pytest.fail("the weights were downloaded"))
    with pytest.raises(OptionError, match=r"--model\.dim 8 does not apply to --weights timm:resnet10t, .* 512\."):
        train(options(tmp_path / "nowhere", Path("timm:resnet10t"), tmp_path / "run", "--model.dim", "8"))


def test_without_weights_the_configuration_of_fine_tuning_takes_any_backbone(landmarks: Path, tmp_path: Path) -> None:
    network = ("--model.backbone", "resnet14t", "--model.pretrained", "false", "--model.dim", "8")
    more = ("--weights", "null", *network, "--model.start", "random", "--trainer.max_steps", "1")
    model = glam.load(train(options(landmarks, Path("ignored"), tmp_path / "run", *more)), "cpu")
    assert model.network.architecture.backbone == "resnet14t"


def test_a_model_to_start_from_has_to_be_there(landmarks: Path, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="no model named"):
        train(options(landmarks, Path("glam-lite99"), tmp_path / "run"))
