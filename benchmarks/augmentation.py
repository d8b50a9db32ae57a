"""Effect of augmentation on mAP: `glam.datasets.views` compared with its predecessor, torchvision per image.

    python benchmarks/augmentation.py --data ../shared/landmarks/train --val ../shared/landmarks/val \\
        --distractors ../shared/landmarks/distractors --device cuda --jobs 5 --out benchmarks/results/augmentation.json
    python benchmarks/augmentation.py ... --epochs 1 -- --data.size 128            # further options of `glam train`

Each run trains like `glam train --config lite0`, and scores its last epoch on --val with --distractors like `glam eval
folder`. No epoch is selected by its score. Runs with the same seed start from the same weights, train on the same
images in the same order, and differ only in the views, so the arms are compared per seed and per query. Intervals are
95%, from bootstrap samples of both seeds and landmarks.

Each finished run is written to --out immediately, with the AP of each query. A later call with the same options skips
the runs in --out.
"""

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from ablation import FOLDERS, TRAINER, decode, train_and_score
from ablation_table import ap_matrix, bootstrap, points
from former_views import FormerViews, collate_former_views

from glam.errors import GlamError
from glam.eval.report import versions
from glam.output import write_json
from glam.training.cli import TrainingCLI, build_cli

ARMS = ("former", "views")

Result = dict[str, Any]
"""A `Run` as a dictionary, with the results of `ablation.train_and_score` and the ``loss`` of the last epoch."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        arm: augmentation, one of `ARMS`.
        seed: seed of all random numbers.
    """

    arm: str
    seed: int


def main() -> int:
    """Trains the runs that are not in --out, and prints the comparison. Returns the exit status."""
    given = arguments()
    results = read_results(given.out, given.options)
    runs = [Run(arm, seed) for seed in range(given.seeds) for arm in ARMS]
    failed = train_all([run for run in runs if run not in results], results, given)
    for line in lines(summarize(list(results.values()))):
        print(line)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """Parses the command line; ``options`` are those of `glam train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one sub-folder per training landmark")
    parser.add_argument("--val", type=Path, required=True, help="folder with one sub-folder per landmark to score")
    parser.add_argument("--distractors", type=Path, required=True, help="folder of distractors")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--epochs", type=int, help="number of epochs [default: the configuration's]")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time")
    parser.add_argument("--workers", type=int, default=1, help="number of processes that read images, per run")
    parser.add_argument("--scratch", type=Path, help="folder for 1 GB of pixels [default: the system's]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/augmentation.json"))
    parser.epilog = "Options of `glam train` can follow after --."
    split = [*sys.argv, "--"].index("--")
    given = parser.parse_args(sys.argv[1:split])
    epochs = () if given.epochs is None else (f"--trainer.max_epochs={given.epochs}",)
    given.options = [*epochs, *sys.argv[split + 1 :]]
    return given


def read_results(path: Path, options: Sequence[str]) -> dict[Run, Result]:
    """Reads the results that `write_results` wrote; returns none if there is no file.

    Args:
        path: path of the file.
        options: further options of `glam train`.

    Raises:
        GlamError: the file has runs with other options.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["options"] != list(options):
        raise GlamError(f"{path} has runs with other options: {content['options']}. Choose another --out.")
    return {Run(result["arm"], result["seed"]): result for result in content["runs"]}


def train_all(runs: Sequence[Run], results: dict[Run, Result], given: argparse.Namespace) -> int:
    """Trains runs in parallel, adds their results, and writes --out after each.

    Args:
        runs: runs to train.
        results: results so far; each finished run is added.
        given: command line.

    Returns:
        Number of failed runs.
    """
    if not runs:
        return 0
    failed = 0
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes below, which share the cores
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        for name, folder in zip(FOLDERS, (given.data, given.val, given.distractors), strict=True):
            decode(folder, Path(scratch) / name)
        # A fresh interpreter per job: after CUDA is initialized, a forked process cannot use the GPU.
        with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
            futures = {pool.submit(carry_out, run, Path(scratch), given): run for run in runs}
            for future in as_completed(futures):
                run = futures[future]
                if future.exception() is not None:  # the other runs continue
                    failed += 1
                    print(f"{run.arm}, seed {run.seed} failed", file=sys.stderr)
                    traceback.print_exception(future.exception())
                    continue
                results[run] = future.result()
                write_results(given, results)
                score, seconds = 100 * results[run]["map"], results[run]["seconds"]
                print(f"{run.arm}, seed {run.seed}: mAP {score:.2f}, {seconds} s", flush=True)
    return failed


def configure(run: Run, folder: Path, given: argparse.Namespace) -> TrainingCLI:
    """Builds network, data, and trainer of a run from the configuration `lite0`.

    Args:
        run: the run.
        folder: folder with `FOLDERS`.
        given: command line.
    """
    data = (f"--data.train={folder / 'train'}", f"--data.val={folder / 'val'}", f"--data.workers={given.workers}")
    trainer = (*TRAINER, f"--trainer.accelerator={given.device}")
    return build_cli(["--config=lite0", *data, f"--data.seed={run.seed}", *trainer, *given.options])


def augmentation(arm: str) -> AbstractContextManager[Any]:
    """Uses the augmentation of an arm inside the block."""
    if arm == "views":
        return nullcontext()
    return patch.multiple("glam.training.data", Views=FormerViews, collate_views=collate_former_views)


def carry_out(run: Run, folder: Path, given: argparse.Namespace) -> Result:
    """Trains and scores a run.

    Args:
        run: the run.
        folder: folder with `FOLDERS`.
        given: command line.
    """
    with augmentation(run.arm):
        cli = configure(run, folder, given)
        scores = train_and_score(cli, folder, given.device)
    return {**asdict(run), **scores, "loss": round(float(cli.trainer.callback_metrics["epoch_loss"]), 4)}


def summarize(results: Sequence[Result]) -> dict[str, Any]:
    """Computes mAP of each arm and the gain of "views", in percentage points, over the seeds that both arms have.

    Args:
        results: results of runs with the same options.

    Returns:
        Per arm, and for "gain": ``map`` or ``gain`` with ``_low`` and ``_high``, and ``by_seed``. Empty if no seed has
        both arms.
    """
    by_run = {(result["arm"], result["seed"]): result for result in results}
    seeds = sorted(seed for arm, seed in by_run if arm == ARMS[0] and (ARMS[1], seed) in by_run)
    if not seeds:
        return {}
    (former, landmarks), (views, _) = (ap_matrix([by_run[arm, seed] for seed in seeds]) for arm in ARMS)
    rows = {ARMS[0]: ("map", former), ARMS[1]: ("map", views), "gain": ("gain", views - former)}
    return {
        "seeds": seeds,
        **{
            key: {
                **points(name, bootstrap(ap, landmarks)),
                "by_seed": [round(100 * float(mean), 2) for mean in ap.mean(axis=1)],
            }
            for key, (name, ap) in rows.items()
        },
    }


def lines(summary: dict[str, Any]) -> list[str]:
    """Formats a summary as lines of text."""
    shown = []
    for key, name in ((ARMS[0], "map"), (ARMS[1], "map"), ("gain", "gain")):
        if key in summary:
            row = summary[key]
            interval = f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
            shown.append(f"{key:7} {interval}  by seed {', '.join(f'{value:.2f}' for value in row['by_seed'])}")
    return shown


def write_results(given: argparse.Namespace, results: dict[Run, Result]) -> None:
    """Writes results and their summary to --out.

    Args:
        given: command line.
        results: results so far.
    """
    ordered = [results[run] for run in sorted(results, key=lambda run: (run.seed, ARMS.index(run.arm)))]
    content = {
        "recipe": "lite0",
        "options": given.options,
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "CPU",
        "versions": versions(),
        "summary": summarize(ordered),
        "runs": ordered,
    }
    write_json(given.out, content)


if __name__ == "__main__":
    sys.exit(main())
