"""Interrupted and resumed trainings: a sample of the matrix, and that its checks notice what may go wrong."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.intake.trees_command import Result
from tests.test_layout import ROOT
from tests.training.interruptions.kinds import KINDS, Kind
from tests.training.interruptions.small_run import Ending
from tests.training.interruptions.trial import Trial, Unbroken

SAMPLE = 3
"""Trials of the sample, of a kind each. `make soak` runs 30."""

ENDING = Ending({"steps": 27}, {"weight": torch.ones(2)}, {"weight": torch.ones(2)})


def test_a_sample_of_interrupted_runs_ends_as_the_unbroken_run() -> None:
    command = [sys.executable, "-m", "tests.training.interruptions", "--count", str(SAMPLE), "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr[-8_000:] + done.stdout


def kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def faults(folder: Path, name: str, code: int | None, err: str = "", files: Sequence[str] = ()) -> list[str]:
    """What the checks say about an interrupted run that left some empty files."""
    trial = Trial(folder, kind(name), random.Random(0), Unbroken(folder, ENDING, 1.0))
    trial.out.mkdir()
    for file in files:
        (trial.out / file).touch()
    return list(trial._interruption_faults(Result((), code, "", err, 1.0)))


RESUME = "stopped; resume with: glam train --resume"


@pytest.mark.parametrize(
    ("name", "code", "err", "files", "expected"),
    [
        ("SIGTERM", 143, RESUME, (), []),
        ("SIGTERM", 143, "", (), ["does not say how to resume"]),
        ("SIGTERM", 1, "glam: sorry", (), ["exit code 1, not 143"]),
        ("Ctrl-C", 130, RESUME, (), []),
        ("Ctrl-C", 130, "", (), ["does not say how to resume"]),
        ("Ctrl-C", 0, "", (), ["no result"]),
        ("SIGKILL", None, "", (), ["did not end within 1 s", "exit code None, not -9"]),
        ("max_time", 0, "", ("model.safetensors",), []),
        ("max_time", 0, "", (), ["no model"]),
        ("full disk", 1, "glam: it is full", (), []),
        ("full disk", 1, "", (), ["does not say in one sentence what is wrong"]),
        (
            "full disk",
            1,
            "glam: it is full\nTraceback (most recent call last)",
            (),
            ["Traceback (most recent call last)"],
        ),
    ],
)
def test_wrong_ends_are_found(
    tmp_path: Path, name: str, code: int | None, err: str, files: Sequence[str], expected: list[str]
) -> None:
    assert faults(tmp_path, name, code, err, files) == expected


REFUSED = "glam: run/checkpoints/last.ckpt cannot be read (cut). Restore it, or start again in another --out."
NOT_RESUMED = "exit code 0, not 1, without a checkpoint that can be read"
NOT_SAID = "does not say in one sentence that the checkpoint cannot be read"


@pytest.mark.parametrize(
    ("name", "checkpoints", "code", "err", "expected"),
    [
        ("cut checkpoint", ("last",), 1, REFUSED, []),
        ("cut checkpoint", ("last",), 0, "", [NOT_RESUMED, NOT_SAID]),
        ("cut checkpoint", ("last",), 1, "glam: sorry", [NOT_SAID]),
        (
            "cut checkpoint",
            ("last",),
            1,
            f"{REFUSED}\nTraceback (most recent call last)",
            ["Traceback (most recent call last)"],
        ),
        ("cut checkpoint", ("last", "previous"), 1, REFUSED, ["exit code 1, not 0", "no result"]),
        ("cut checkpoint", ("last", "best"), 1, REFUSED, ["exit code 1, not 0", "no result"]),
        ("SIGKILL", ("last",), 1, REFUSED, ["exit code 1, not 0", "no result"]),
    ],
)
def test_a_refusal_is_a_right_end_only_if_the_one_checkpoint_was_cut(
    tmp_path: Path, name: str, checkpoints: Sequence[str], code: int, err: str, expected: list[str]
) -> None:
    trial = Trial(tmp_path, kind(name), random.Random(0), Unbroken(tmp_path, ENDING, 1.0))
    (trial.out / "checkpoints").mkdir(parents=True)
    for checkpoint in checkpoints:
        (trial.out / "checkpoints" / f"{checkpoint}.ckpt").touch()
    assert list(trial._last_faults(Result((), code, "", err, 1.0))) == expected


def test_another_ending_is_found() -> None:
    other = Ending({"steps": 26}, {"weight": torch.tensor([1.0, 2.0])}, {})
    assert ENDING.differences(ENDING) == []
    assert ENDING.differences(other) == [
        "steps of the result: 27, not 26",
        "model: 1 of 1 tensors differ",
        "last state: 1 of 1 tensors differ",
    ]


def test_trials_depend_on_the_seed_alone(tmp_path: Path) -> None:
    lines = [Trial(tmp_path, KINDS[0], random.Random(seed), Unbroken(tmp_path, ENDING, 1.0)).line for seed in range(9)]
    again = [Trial(tmp_path, KINDS[0], random.Random(seed), Unbroken(tmp_path, ENDING, 1.0)).line for seed in range(9)]
    assert lines == again
    assert len(set(lines)) > 1
