"""A killed run resumes on the same or another number of processes, with each image once per epoch."""

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glam.datasets.sampler import EpochPart, SizeBatchSampler
from glam.training.rebase_progress import rebase_progress

PROGRAM = """
import os, signal, sys
from pathlib import Path
from glam.training import module
step = module.LandmarkModule.training_step
notes, fatal = Path(os.environ["NOTES"]), int(os.environ["FATAL_STEP"])  # of the whole training; 0 for none
def noting(self, batch, i):
    if fatal and self.global_step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    with (notes / f"{self.global_rank}.txt").open("a") as file:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        print(self.current_epoch, self.global_step, rate, *batch[2].tolist(), file=file)
    return step(self, batch, i)
module.LandmarkModule.training_step = noting
from glam.training.cli import train
train(sys.argv[1:])
"""


@pytest.fixture
def landmarks(tmp_path: Path) -> Path:
    """Twelve landmarks of four noisy views, in portrait and landscape."""
    root = tmp_path / "landmarks"
    for landmark in range(12):
        (root / f"{landmark:02}").mkdir(parents=True)
        for i in range(4):
            shape = (48, 64, 3) if i % 2 else (64, 48, 3)
            noise = np.random.default_rng([landmark, i]).integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(noise).save(root / f"{landmark:02}" / f"{i}.png")
    return root


def run(program: Path, notes: Path, fatal: int, arguments: list[str], *, dies: bool = False) -> None:
    """Runs the program in a process group of its own, which is killed when the first process ends."""
    notes.mkdir()
    command = [sys.executable, str(program), *arguments]
    environment = {**os.environ, "NOTES": str(notes), "FATAL_STEP": str(fatal)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            process.wait(timeout=300)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.stderr is not None
        assert process.returncode == (-signal.SIGKILL if dies else 0), process.stderr.read().decode()[-3000:]


def seen(notes: Path, epoch: int) -> list[list[list[int]]]:
    """For each process, the batches of an epoch as indices of images."""
    ranks = []
    for file in sorted(notes.iterdir()):
        rows = [line.split() for line in file.read_text().splitlines()]
        ranks.append([[int(i) for i in row[3:]] for row in rows if int(row[0]) == epoch])
    return ranks


def rates(notes: Path) -> list[float]:
    """The learning rate of each step of the first process."""
    return [float(line.split()[2]) for line in (notes / "0.txt").read_text().splitlines()]


def last_checkpoint(out: Path) -> dict[str, Any]:
    return torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)  # type: ignore[no-any-return]


def test_a_run_goes_on_with_other_numbers_of_processes(landmarks: Path, tmp_path: Path) -> None:
    """Two processes are killed in the second epoch, one resumes and is killed, and two finish; centers are sharded."""
    program, out = tmp_path / "program.py", tmp_path / "run"
    program.write_text(PROGRAM)
    arguments = [
        *("--data.train", str(landmarks), "--data.val_share", "0.34", "--data.size", "64", "--data.batch_size", "3"),
        *("--data.workers", "0", "--model.backbone", "resnet10t", "--model.pretrained", "false", "--model.dim", "8"),
        *(
            "--model.attention",
            "null",
            "--model.start",
            "random",
            "--model.loss.sharded",
            "true",
            "--trainer.max_epochs",
            "3",
        ),
        *("--model.freeze_batch_norm", "false"),
        *("--trainer.accelerator", "cpu", "--trainer.strategy", "ddp", "--save_every", "2", "--out", str(out)),
    ]
    images = 32  # of eight training landmarks: twelve batches of three or two, six for each of two processes
    run(program, tmp_path / "a", 9, [*arguments, "--trainer.devices", "2"], dies=True)
    first = last_checkpoint(out)["LandmarkData"]
    assert (first["epoch"], first["parts"]) == (1, [[2, 3, 2]])
    run(program, tmp_path / "b", 19, [*arguments, "--trainer.devices", "1", "--resume"], dies=True)
    second = last_checkpoint(out)["LandmarkData"]
    assert second["epoch"] == 1
    assert [part[:2] for part in second["parts"]] == [[2, 3], [1, 3]]
    run(program, tmp_path / "c", 0, [*arguments, "--trainer.devices", "2", "--resume"])

    begun = [batch for rank in seen(tmp_path / "a", 1) for batch in rank[:2]]
    gone_on = seen(tmp_path / "b", 1)[0][: second["parts"][1][2]]
    ended = [batch for rank in seen(tmp_path / "c", 1) for batch in rank]
    assert Counter(i for batch in [*begun, *gone_on, *ended] for i in batch) == Counter(range(images))
    whole = [batch for rank in seen(tmp_path / "c", 2) for batch in rank]
    assert Counter(i for batch in whole for i in batch) == Counter(range(images)), "the next epoch is whole again"
    assert rates(tmp_path / "b")[1] < rates(tmp_path / "a")[6], "the learning rate goes on falling"
    assert rates(tmp_path / "b")[1] > rates(tmp_path / "c")[-1]
    assert last_checkpoint(out)["state_dict"]["loss.centers"].shape == (8, 8)


@pytest.mark.parametrize("now", [EpochPart(1, 8, 0), EpochPart(3, 5, 0), EpochPart(8, 16, 0)])
def test_what_parts_of_an_epoch_left_is_drawn_once(now: EpochPart) -> None:
    sizes = [((64, 48), (48, 64), (64, 64))[i % 3] for i in range(500)]
    parts = (EpochPart(4, 8, 5), EpochPart(2, 16, 3))
    drawn: list[int] = []
    for number, part in enumerate(parts):
        for rank in range(part.ranks):
            sampler = SizeBatchSampler(sizes, part.batch_size, rank=rank, ranks=part.ranks)
            sampler.earlier = parts[:number]
            drawn += [draw.index for batch in list(sampler)[: part.batches] for draw in batch]
    counts = set()
    for rank in range(now.ranks):
        sampler = SizeBatchSampler(sizes, now.batch_size, rank=rank, ranks=now.ranks)
        sampler.earlier = parts
        left = len(sampler) - sampler.skipped
        batches = list(sampler)
        assert len(batches) == left
        counts.add(left)
        drawn += [draw.index for batch in batches for draw in batch]
        assert len(list(sampler)) == len(sampler), "only the first pass is cut short"
    assert Counter(drawn) == Counter(range(500))
    assert len(counts) == 1, "every rank must have as many batches"


def test_a_few_images_left_still_give_every_rank_a_batch() -> None:
    sizes = [(64, 64)] * 20
    done = (EpochPart(1, 6, 3),)  # of four batches of five, so that five images remain
    batches = []
    for rank in range(8):
        sampler = SizeBatchSampler(sizes, 4, rank=rank, ranks=8)
        sampler.earlier = done
        batches.append(list(sampler))
    assert {len(mine) for mine in batches} == {1}
    assert len({draw.index for mine in batches for batch in mine for draw in batch}) == 5


def test_counts_are_brought_to_the_new_measure() -> None:
    progress = {"current": {"ready": 4, "processed": 4, "completed": 3}, "total": {"ready": 14, "processed": 14}}
    step = {"total": {"ready": 14, "completed": 14}}
    loops = {
        "epoch_loop.batch_progress": progress,
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": {"step": step}},
        "epoch_loop.state_dict": {"_batches_that_stepped": 14},
    }
    checkpoint = {
        "epoch": 1,
        "global_step": 14,
        "loops": {"fit_loop": loops},
        "lr_schedulers": [{"last_epoch": 14, "_step_count": 15}],
    }
    rebase_progress(checkpoint, 8, 20)
    assert progress["current"] == {"ready": 8, "processed": 8, "completed": 7}
    assert step["total"] == {"ready": 28, "completed": 28}
    assert checkpoint["global_step"] == 28
    assert checkpoint["lr_schedulers"] == [{"last_epoch": 28, "_step_count": 29}]
