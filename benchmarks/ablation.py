"""Ablation of GLAM on a folder of images: the paper's Tables 4 and 5 at a small scale.

    python benchmarks/ablation.py ../shared/landmarks --jobs 5 --workers 3
    python benchmarks/ablation.py ../shared/landmarks --jobs 5 --workers 3 --setting lite0= \\
        --setting "even start=--model.input_weight 0.334" --setting "12 epochs=--trainer.max_epochs 12"

Each run trains on train/ like `glam train --config lite0`, with one of `VARIANTS` instead of GLAM, and scores its last
epoch on val/ with distractors/ like `glam eval folder`. No epoch is selected by its score. Runs with the same seed see
the same views in the same order. A --setting adds options of `glam train` to all variants.

The images are decoded once, into uncompressed files that all runs read. Each finished run is appended to --runs as a
JSON line with every AP, and a later call skips it. The table (CSV) and the plot (SVG) are made from these lines.
"""

import argparse
import gc
import json
import math
import multiprocessing
import os
import shlex
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ablation_table import draw, summarize, write_table

from glam.datasets.readers import read_folder
from glam.eval.folder import evaluate_folder
from glam.eval.report import versions
from glam.images import read_image
from glam.model import Model
from glam.model_file import ModelHeader
from glam.training.cli import TrainingCLI, build_cli

FOLDERS = ("train", "val", "distractors")
PARTS = ("local_channel", "local_spatial", "global_channel", "global_spatial")


def _only(*parts: str) -> tuple[str, ...]:
    """Options of `glam train` that switch off all other parts of GLAM."""
    return tuple(f"--model.attention.{part}=false" for part in PARTS if part not in parts)


VARIANTS: dict[str, tuple[str, ...]] = {
    "none": ("--model.attention=null",),
    "local channel": _only("local_channel"),
    "local spatial": _only("local_spatial"),
    "local": _only("local_channel", "local_spatial"),
    "global channel": _only("global_channel"),
    "global spatial": _only("global_spatial"),
    "global": _only("global_channel", "global_spatial"),
    "all": (),
    "all, dilations 1 2 3": ("--model.attention.dilations=[1, 2, 3]",),
    "all, activation": ("--model.attention.local_activation=true",),
}
"""Variants of GLAM, as options of `glam train`. The default has dilations 1, 3, and 5, and no activation."""

TRAINER = (
    *("--trainer.devices=1", "--trainer.limit_val_batches=0", "--trainer.logger=false"),
    *("--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        setting: name of the ``options``.
        options: options of `glam train`, in addition to those of the variant.
        variant: key of `VARIANTS`.
        seed: seed of all random numbers.
    """

    setting: str
    options: tuple[str, ...]
    variant: str
    seed: int


def main() -> int:
    """Trains the runs that are missing, and writes table and plot. Returns the exit status."""
    given = arguments()
    seeds = range(given.seeds)
    runs = [Run(*setting, variant, seed) for setting in given.setting for variant in given.variants for seed in seeds]
    record = Record(given.runs)
    failed = 0
    if not all(map(record.has_run, runs)):
        with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
            began = time.monotonic()
            for name in FOLDERS:
                decode(given.folder / name, Path(scratch) / name)
            print(f"images decoded in {time.monotonic() - began:.0f} s", flush=True)
            failed = train_all(runs, record, given, Path(scratch))
    rows = summarize(record.lines, list(VARIANTS))
    write_table(rows, given.csv)
    draw(rows, given.plot)
    for row in rows:
        shown = ("setting", "variant", "seeds", "map", "gain", "gain_low", "gain_high", "step_ms")
        print("  ".join(f"{key} {row[key]}" for key in shown if key in row))
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """Parses the command line; ``setting`` is a list of (name, options)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with train/, val/, and distractors/")
    parser.add_argument(
        "--setting",
        action="append",
        type=_setting,
        metavar="NAME=OPTIONS",
        help="options of `glam train` and their name [default: lite0=]",
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time")
    parser.add_argument("--workers", type=int, default=1, help="number of processes that read images, per run")
    parser.add_argument("--no-costs", action="store_true", help="skip the cost of a step, for a busy machine")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after this time")
    parser.add_argument("--scratch", type=Path, help="folder for 1 GB of pixels [default: the system's]")
    parser.add_argument("--runs", type=Path, default=Path("benchmarks/results/ablation.jsonl"))
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/results/ablation.csv"))
    parser.add_argument("--plot", type=Path, default=Path("docs/lab/ablation.svg"))
    given = parser.parse_args()
    given.setting = given.setting or [("lite0", ())]
    return given


def _setting(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, options = text.partition("=")
    return name, tuple(shlex.split(options))


class Record:
    """A JSON Lines file with one line per finished run or cost measurement.

    Args:
        path: path of the file; created with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    def add(self, line: dict[str, Any]) -> None:
        """Appends a line to the file."""
        self.lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def has_run(self, run: Run) -> bool:
        """Returns whether the run is finished."""
        return any("ap" in line and line["seed"] == run.seed for line in self._of(run))

    def has_cost(self, run: Run) -> bool:
        """Returns whether the cost of this setting and variant is measured."""
        return any("step_ms" in line for line in self._of(run))

    def _of(self, run: Run) -> list[dict[str, Any]]:
        wanted = (run.setting, run.variant, list(run.options))
        return [line for line in self.lines if (line["setting"], line["variant"], list(line["options"])) == wanted]


def decode(folder: Path, out: Path) -> None:
    """Writes the images of a folder as uncompressed files (PPM), with ``.ppm`` appended to their names."""
    collection = read_folder(folder)

    def write(index: int) -> None:
        target = out / f"{collection.images[index].path}.ppm"
        target.parent.mkdir(parents=True, exist_ok=True)
        read_image(collection.file(index)).save(target)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(len(collection))))


def train_all(runs: Sequence[Run], record: Record, given: argparse.Namespace, folder: Path) -> int:
    """Measures missing costs one by one, then trains missing runs, several at a time.

    Args:
        runs: all runs; finished ones are skipped.
        record: receives the results.
        given: command line.
        folder: folder with `FOLDERS`.

    Returns:
        Number of failed runs.
    """
    began, failed = time.monotonic(), 0
    machine = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "versions": versions()}
    waiting = [run for run in runs if not record.has_run(run)]
    for run in waiting:
        if not given.no_costs and not record.has_cost(run):
            record.add(cost(run, folder) | machine)
            print(f"{run.setting}, {run.variant}: {record.lines[-1]['step_ms']} ms per step", flush=True)
    running: dict[Future[dict[str, Any]], Run] = {}
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes below, which share the cores
    # A fresh interpreter per job: after CUDA is initialized, a forked process cannot use the GPU.
    context = multiprocessing.get_context("spawn")
    gpus = context.Queue()
    for job in range(given.jobs):
        gpus.put(job % max(1, torch.cuda.device_count()))
    with ProcessPoolExecutor(given.jobs, context, initializer=_use_gpu, initargs=(gpus,)) as pool:
        while waiting or running:
            while waiting and len(running) < given.jobs:
                run = waiting.pop(0)
                running[pool.submit(carry_out, run, folder, given.workers)] = run
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                name = f"{run.setting}, {run.variant}, seed {run.seed}"
                if future.exception() is not None:  # the other runs continue
                    failed += 1
                    print(f"{name} failed", file=sys.stderr)
                    traceback.print_exception(future.exception())
                    continue
                done = future.result() | machine
                record.add(done)
                print(f"{name}: mAP {100 * done['map']:.2f}, {done['seconds']} s", flush=True)
            if waiting and time.monotonic() - began > 60 * given.minutes:
                print(f"time is up; run the command again for the remaining {len(waiting)} runs", flush=True)
                waiting.clear()
    return failed


def _use_gpu(gpus: "multiprocessing.Queue[int]") -> None:
    """Limits a process to the next GPU of the queue; runs before the process initializes CUDA."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpus.get())


def configure(run: Run, folder: Path, workers: int) -> TrainingCLI:
    """Builds network, data, and trainer of a run from the configuration `lite0`.

    Args:
        run: the run.
        folder: folder with `FOLDERS`.
        workers: number of processes that read images.
    """
    data = (f"--data.train={folder / 'train'}", f"--data.val={folder / 'val'}", f"--data.workers={workers}")
    seed = f"--data.seed={run.seed}"
    return build_cli(["--config=lite0", *data, seed, *TRAINER, *run.options, *VARIANTS[run.variant]])


def carry_out(run: Run, folder: Path, workers: int) -> dict[str, Any]:
    """Trains and scores a run.

    Args:
        run: the run.
        folder: folder with `FOLDERS`.
        workers: number of processes that read images.

    Returns:
        The run, with the results of `train_and_score`.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {**asdict(run), **train_and_score(configure(run, folder, workers), folder, device)}


def train_and_score(cli: TrainingCLI, folder: Path, device: str) -> dict[str, Any]:
    """Trains a network and scores its last epoch on val/ with distractors/.

    Args:
        cli: network, data, and trainer.
        folder: folder with val/ and distractors/.
        device: device of the trainer, "cuda" or "cpu".

    Returns:
        Scores (fractions), ``ap`` of each query by landmark, ``seconds`` of training, and ``mib``, the peak of GPU
        memory (None on the CPU).
    """
    on_gpu = device == "cuda"
    gc.collect()  # reference cycles keep the previous run in memory
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    cli.trainer.fit(cli.model, cli.datamodule)
    seconds = time.perf_counter() - began
    mib = round(torch.cuda.max_memory_allocated() / 2**20) if on_gpu else None
    network = cli.model.network.to_device(torch.device(device)).eval()
    model = Model("last epoch", network, ModelHeader(network.architecture, size=cli.datamodule.val_size))
    report = evaluate_folder(model, read_folder(folder / "val"), read_folder(folder / "distractors"))
    ap: dict[str, list[float]] = {}
    for path, value in zip(report.paths, report.scores.ap.tolist(), strict=True):
        if not math.isnan(value):
            ap.setdefault(str(Path(path).parent), []).append(round(value, 5))
    return {
        "map": round(report.scores.mean_ap, 5),
        "recall_at_1": round(report.scores.recall_at_1, 5),
        "seconds": round(seconds, 1),
        "mib": mib,
        "ap": ap,
    }


def cost(run: Run, folder: Path, repeats: int = 20) -> dict[str, Any]:
    """Measures a training step (forward and backward) on random images of the run's batch size and size, 4:3.

    Args:
        run: the run.
        folder: folder with `FOLDERS`.
        repeats: number of steps to measure.

    Returns:
        ``step_ms``, the median in milliseconds; ``step_mib``, the peak of GPU memory in MiB (None on the CPU); and
        ``weights``, the number of parameters.
    """
    cli = configure(run, folder, workers=0)
    data, size, network = cli.datamodule, cli.datamodule.options.size, cli.model.network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to_device(device).train()
    images = torch.rand(data.batch_size, 3, size * 3 // 4 // 32 * 32, size, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(5 + repeats):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            descriptors = network(images)
        descriptors[:, 0].sum().backward()
        network.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return {
        "setting": run.setting,
        "options": run.options,
        "variant": run.variant,
        "step_ms": round(1000 * statistics.median(times[5:]), 2),
        "step_mib": round(torch.cuda.max_memory_allocated() / 2**20) if device.type == "cuda" else None,
        "weights": sum(p.numel() for p in network.parameters()),
    }


if __name__ == "__main__":
    sys.exit(main())
