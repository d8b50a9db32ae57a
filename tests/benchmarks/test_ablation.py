"""The ablation: its intervals, its table, and a small one from end to end."""

import csv
import importlib
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from glam.images import read_image
from glam.network import Architecture, DescriptorNetwork
from glam.training.cli import build_cli

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ablation")


@pytest.fixture
def table(ablation: ModuleType) -> ModuleType:
    return importlib.import_module("ablation_table")


def test_an_interval_is_that_of_seeds_and_landmarks_drawn_again(table: ModuleType) -> None:
    random = np.random.default_rng(1)
    landmarks = np.repeat(np.arange(6), [3, 5, 2, 4, 1, 6])
    values = random.normal(size=(3, 21)) + random.normal(size=6)[landmarks]
    mean, low, high = table.bootstrap(values, landmarks, resamples=4000)
    means = []
    for _ in range(4000):
        drawn = [np.flatnonzero(landmarks == landmark) for landmark in random.integers(6, size=6)]
        means.append(values[random.integers(3, size=3)][:, np.concatenate(drawn)].mean())
    np.testing.assert_allclose((mean, low, high), (values.mean(), *np.quantile(means, [0.025, 0.975])), atol=0.1)


def line(variant: str, seed: int, ap: list[float], setting: str = "lite0") -> dict[str, Any]:
    by_landmark = {"a": ap[:2], "b": ap[2:]}
    run = {"setting": setting, "options": ["--x=1"], "variant": variant, "seed": seed, "ap": by_landmark}
    return {**run, "map": float(np.mean(ap)), "recall_at_1": 0.5, "seconds": 10.0, "mib": None}


def test_a_gain_is_taken_over_the_seeds_that_both_have(table: ModuleType) -> None:
    lines = [
        line("all", 0, [0.5, 0.7, 0.9, 0.8]),
        line("all", 1, [0.6, 0.7, 0.9, 0.9]),
        line("all", 2, [0.1, 0.1, 0.1, 0.1]),
        line("none", 1, [0.5, 0.6, 0.8, 0.8]),
        line("none", 0, [0.4, 0.6, 0.8, 0.7]),
        {"setting": "lite0", "options": ["--x=1"], "variant": "all", "step_ms": 12.5, "step_mib": 100, "weights": 7},
        line("all", 0, [1, 1, 1, 1], setting="other"),
    ]
    none, all_, other = table.summarize(lines, ["none", "all"])
    assert (none["variant"], all_["variant"], other["setting"]) == ("none", "all", "other")
    assert all_["seeds"] == 3
    assert (all_["gain"], all_["gain_low"], all_["gain_high"]) == pytest.approx((10, 10, 10))
    assert all_["map"] == pytest.approx(100 * np.mean([0.725, 0.775, 0.1]), abs=0.01)
    assert (all_["step_ms"], none["step_ms"]) == (12.5, None)
    assert "gain" not in other


def test_every_variant_is_what_it_is_called(ablation: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """The options of each give the network that its name says, and keep the rest of the recipe."""
    kept = {}
    for name, options in ablation.VARIANTS.items():
        with pytest.raises(SystemExit):
            build_cli(["--config=lite0", "--data.train=nowhere", *options, "--print_config"])
        kept[name] = yaml.safe_load(capsys.readouterr().out)["model"]["attention"]
    assert kept["none"] is None
    assert kept["all"] == {"name": "glam", "reduction": 256}
    assert kept["all, dilations 1 2 3"] == {"name": "glam", "reduction": 256, "dilations": [1, 2, 3]}
    assert kept["all, activation"] == {"name": "glam", "reduction": 256, "local_activation": True}
    for name in ("local channel", "local spatial", "local", "global channel", "global spatial", "global"):
        glam = DescriptorNetwork(Architecture("resnet10t", dim=8, attention=kept[name])).attention
        present = {part for part in ablation.PARTS if getattr(glam, part) is not None}
        assert present == {part for part in ablation.PARTS if part.startswith(name.replace(" ", "_"))}


def test_decoded_images_have_the_same_pixels(ablation: ModuleType, landmarks: Path, tmp_path: Path) -> None:
    ablation.decode(landmarks / "val", tmp_path / "pixels")
    files = sorted((landmarks / "val").rglob("*.webp"))
    assert len(files) == len(list((tmp_path / "pixels").rglob("*.ppm"))) == 12
    for file in files[::3]:
        again = read_image(tmp_path / "pixels" / f"{file.relative_to(landmarks / 'val')}.ppm")
        np.testing.assert_array_equal(np.asarray(again), np.asarray(read_image(file)))


def test_a_finished_run_is_not_done_again(
    ablation: ModuleType, landmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From images to table and plot; a second call with one more variant adds that alone."""
    options = (
        "--model.backbone resnet10t --model.pretrained false --model.dim 8 --model.attention.reduction 8 "
        "--data.size 64 --data.val_size 64 --data.batch_size 4 --trainer.max_epochs 1 --trainer.accelerator cpu"
    )
    out = {name: tmp_path / name for name in ("runs", "csv", "plot")}
    given = ["ablation.py", str(landmarks), "--setting", f"small={options}", "--seeds", "1", "--workers", "0"]
    given += [word for name, path in out.items() for word in (f"--{name}", str(path))]
    monkeypatch.setattr(ablation.torch.cuda, "is_available", lambda: False)

    def call(*variants: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", [*given, "--variants", *variants])
        assert ablation.main() == 0
        return [json.loads(text) for text in out["runs"].read_text().splitlines()]

    first = call("none", "all")
    assert [(one["variant"], "ap" in one) for one in first] == [("none", 0), ("all", 0), ("none", 1), ("all", 1)]
    assert [len(ap) for ap in first[2]["ap"].values()] == [4, 4, 4]
    again = call("none", "local", "all")
    assert again[:4] == first
    assert [one["variant"] for one in again[4:]] == ["local", "local"]
    assert [row["variant"] for row in csv.DictReader(out["csv"].open())] == ["none", "local", "all"]
    assert ET.parse(out["plot"]).getroot().tag.endswith("svg")
