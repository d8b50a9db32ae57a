"""The small training that is interrupted, and what it leaves: result, weights, and state."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.intake.hostile_content import draw_image

LANDMARKS, IMAGES = {"train": 8, "val": 4}, 4
"""Landmarks of each folder, and images of each landmark."""

OPTIONS = {
    "model.backbone": "test_resnet",
    "model.pretrained": "false",
    "model.dim": "8",
    "model.attention": "{name: glam, reduction: 8}",
    "model.dropout": "0.1",
    "model.freeze_batch_norm": "false",
    "model.end_whitening": "0.5",
    "data.size": "64",
    "data.batch_size": "4",
    "trainer.max_epochs": "3",
    "trainer.accelerator": "cpu",
}
"""Options of a training of 27 steps that takes seconds and uses all that has a state: the start by PCA, dropout, batch
norms, and the whitening at the end."""


@dataclass(frozen=True)
class Ending:
    """What a finished run leaves.

    Attributes:
        result: ``result.json``, without what may differ between equal trainings.
        weights: the weights of the model file.
        state: the weights of the last step.
    """

    result: dict[str, Any]
    weights: dict[str, Tensor]
    state: dict[str, Tensor]

    def differences(self, other: "Ending") -> list[str]:
        """What differs from another ending, one text each."""
        results = [name for name in self.result if self.result[name] != other.result.get(name)]
        found = [f"{name} of the result: {self.result[name]}, not {other.result.get(name)}" for name in results]
        for title, ours, theirs in (("model", self.weights, other.weights), ("last state", self.state, other.state)):
            changed = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
            if changed or ours.keys() != theirs.keys():
                found.append(f"{title}: {len(changed)} of {len(ours)} tensors differ")
        return found


def draw_landmarks(folder: Path) -> None:
    """Makes the folders ``train`` and ``val`` with generated images."""
    rng = random.Random(0)
    for part, landmarks in LANDMARKS.items():
        for landmark in range(landmarks):
            (folder / part / f"{part} {landmark}").mkdir(parents=True)
            for i in range(IMAGES):
                (folder / part / f"{part} {landmark}" / f"{i}.jpg").write_bytes(draw_image(rng))


def train_line(data: Path, out: Path, workers: int, save_every: int) -> tuple[str, ...]:
    """The arguments of `glam` that train.

    Args:
        data: folder that `draw_landmarks` made.
        out: folder of the run.
        workers: number of processes that read images.
        save_every: number of steps between two checkpoints.
    """
    folders = {"data.train": str(data / "train"), "data.val": str(data / "val"), "out": str(out)}
    options = {**OPTIONS, **folders, "data.workers": str(workers), "save_every": str(save_every)}
    return ("train", *(f"--{name}={value}" for name, value in options.items()))


def model_file(out: Path) -> Path:
    """The model file of a run."""
    return out / "model.safetensors"


def read_ending(out: Path) -> Ending:
    """Reads what a finished run left."""
    result = json.loads((out / "result.json").read_text())
    del result["resumed"]
    last = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    return Ending(result, load_file(model_file(out)), last["state_dict"])
