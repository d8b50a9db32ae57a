"""The comparison of the former augmentation with the present one."""

import importlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from glam.errors import GlamError

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    *("--model.backbone=resnet10t", "--model.pretrained=false", "--model.dim=8", "--model.attention.reduction=8"),
    *("--data.size=64", "--data.val_size=64", "--data.batch_size=4"),
]


@pytest.fixture
def augmentation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("augmentation")


def test_arms_differ_only_in_their_views(augmentation: ModuleType, landmarks: Path) -> None:
    given = Namespace(workers=0, device="cpu", options=SMALL)
    first = {}
    for arm in augmentation.ARMS:
        with augmentation.augmentation(arm):
            cli = augmentation.configure(augmentation.Run(arm, 3), landmarks, given)
            cli.datamodule.trainer = SimpleNamespace(
                global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu"))
            )
            first[arm] = cli.model.network.state_dict(), next(iter(cli.datamodule.train_dataloader()))
    (weights, (images, *ids)), (other_weights, (other_images, *other_ids)) = first["former"], first["views"]
    torch.testing.assert_close(weights, other_weights, rtol=0, atol=0)
    torch.testing.assert_close(ids, other_ids)
    assert images.shape == other_images.shape
    assert (images - other_images).abs().mean() > 0.05


def result(arm: str, seed: int, ap: list[float]) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "map": float(np.mean(ap)), "ap": {"a": ap[:2], "b": ap[2:]}}


def test_a_gain_is_taken_over_the_seeds_that_both_arms_have(augmentation: ModuleType) -> None:
    results = [
        result("former", 0, [0.4, 0.6, 0.8, 0.7]),
        result("former", 1, [0.5, 0.6, 0.8, 0.8]),
        result("views", 1, [0.6, 0.7, 0.9, 0.9]),
        result("views", 0, [0.5, 0.7, 0.9, 0.8]),
        result("views", 2, [0.1, 0.1, 0.1, 0.1]),
    ]
    summary = augmentation.summarize(results)
    assert summary["seeds"] == [0, 1]
    assert [summary["gain"][key] for key in ("gain", "gain_low", "gain_high")] == pytest.approx([10, 10, 10])
    assert summary["gain"]["by_seed"] == pytest.approx([10, 10])
    assert summary["former"]["map"] == pytest.approx(65)
    assert augmentation.summarize(results[:1]) == {}


def test_runs_with_other_options_are_not_compared(augmentation: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text(json.dumps({"options": ["--trainer.max_epochs=1"], "runs": [result("views", 2, [0.1, 0.2, 0.3])]}))
    assert list(augmentation.read_results(path, ["--trainer.max_epochs=1"])) == [augmentation.Run("views", 2)]
    with pytest.raises(GlamError, match=r"other options.*Choose another --out"):
        augmentation.read_results(path, [])


def test_runs_go_side_by_side_without_faiss_and_a_finished_one_is_not_done_again(
    landmarks: Path, tmp_path: Path
) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "faiss.py").write_text("raise ImportError('FAISS is blocked')")
    folders = [word for name in ("val", "distractors") for word in (f"--{name}", str(landmarks / name))]
    out = tmp_path / "out.json"

    def call(seeds: int) -> tuple[str, dict[str, Any]]:
        command = [
            *(sys.executable, str(ROOT / "benchmarks" / "augmentation.py"), "--data", str(landmarks / "train")),
            *(*folders, "--device", "cpu", "--seeds", str(seeds), "--epochs", "1", "--jobs", "2", "--workers", "0"),
            *("--out", str(out), "--", *SMALL),
        ]
        paths = os.pathsep.join([str(tmp_path / "blocked"), str(ROOT)])
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads(out.read_text())

    _, first = call(1)
    assert [(run["arm"], run["seed"]) for run in first["runs"]] == [("former", 0), ("views", 0)]
    assert first["runs"][0]["loss"] != first["runs"][1]["loss"]
    shown, second = call(2)
    assert second["runs"][:2] == first["runs"]
    assert [(run["arm"], run["seed"]) for run in second["runs"][2:]] == [("former", 1), ("views", 1)]
    assert second["options"] == ["--trainer.max_epochs=1", *SMALL]
    assert shown.splitlines()[-1].startswith("gain ")
