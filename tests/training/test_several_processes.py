"""What several processes of a run must have in common."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

START = """
import os
from pathlib import Path
import torch
from glam.errors import ImageError
from glam.training import module
step, start = module.LandmarkModule.training_step, module.start_from_pca
rank = int(os.environ.get("LOCAL_RANK", 0))

def starting(*arguments, **options):
    if os.environ["FAILS"]:
        raise ImageError("a.jpg", "it is bad")
    descriptors, landmark_ids = start(*arguments, **options)
    arguments[0].head.linear.weight.data.mul_(1 - 2 * rank)  # as another device might find it
    return descriptors * (1 - 2 * rank), landmark_ids

def noting(self, batch, i):
    file = Path(os.environ["NOTES"]) / f"{self.global_rank}.pt"
    if not file.exists():
        torch.save({"head": self.network.head.state_dict(), "centers": self.loss.centers.detach()}, file)
    return step(self, batch, i)

module.LandmarkModule.training_step, module.start_from_pca = noting, starting
from glam.app.cli.main import main
main()
"""


@pytest.fixture
def landmarks(tmp_path: Path) -> Path:
    """Ten landmarks of three noisy views."""
    root = tmp_path / "landmarks"
    for landmark in range(10):
        (root / f"{landmark:02}").mkdir(parents=True)
        for i in range(3):
            noise = np.random.default_rng([landmark, i]).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / f"{landmark:02}" / f"{i}.png")
    return root


def run(landmarks: Path, folder: Path, *, fails: bool = False) -> subprocess.CompletedProcess[str]:
    """Trains for a step in two processes, which note the weights that they begin with."""
    program = folder / "program.py"
    program.write_text(START)
    command = [
        *(sys.executable, str(program), "train", "--data.train", str(landmarks), "--data.val_share", "0.3"),
        *("--data.size", "64", "--data.batch_size", "4", "--data.workers", "0"),
        *(
            "--model.backbone",
            "resnet10t",
            "--model.pretrained",
            "false",
            "--model.dim",
            "8",
            "--model.attention",
            "null",
        ),
        *("--model.start", "pca", "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"),
        *("--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--trainer.devices", "2"),
        *("--out", str(folder / "run")),
    ]
    environment = {**os.environ, "NOTES": str(folder), "FAILS": "1" if fails else ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


def test_all_processes_start_from_the_head_and_the_centers_of_the_first(landmarks: Path, tmp_path: Path) -> None:
    done = run(landmarks, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["head"].keys() == second["head"].keys()
    assert all(torch.equal(first["head"][name], second["head"][name]) for name in first["head"])
    assert torch.equal(first["centers"], second["centers"])


def test_a_start_that_fails_ends_all_processes_in_one_sentence(landmarks: Path, tmp_path: Path) -> None:
    done = run(landmarks, tmp_path, fails=True)
    assert done.returncode == 1
    assert "a.jpg: it is bad" in done.stderr
    assert "Traceback" not in done.stderr
