"""What each part of GLAM brings on a folder of images: the paper's Tables 4 and 5, small.

    python benchmarks/ablation.py ../shared/landmarks --jobs 5 --workers 3
    python benchmarks/ablation.py ../shared/landmarks --jobs 5 --workers 3 --setting lite0= \\
        --setting "even start=--model.input_weight 0.334" --setting "12 epochs=--trainer.max_epochs 12"

Each run trains on train/ as `glam train --config lite0` does, with one of `VARIANTS` in the place of GLAM, and scores
its last epoch on val/ with distractors/ as `glam eval folder` does; no epoch is picked by its score. Runs of one seed
see the same views in the same order. A --setting names further options of `glam train`, for all of its variants.

The images are decoded once, into files of plain pixels that all runs read. A finished run is a line of --runs
(JSON, every AP in it) and is not done again; the table (CSV) and the plot (SVG) are made of those lines.
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
    return tuple(f"--model.glam.{part}=false" for part in PARTS if part not in parts)


VARIANTS: dict[str, tuple[str, ...]] = {
    "none": ("--model.glam=null",),
    "local channel": _only("local_channel"),
    "local spatial": _only("local_spatial"),
    "local": _only("local_channel", "local_spatial"),
    "global channel": _only("global_channel"),
    "global spatial": _only("global_spatial"),
    "global": _only("global_channel", "global_spatial"),
    "all": (),
    "all, dilations 1 2 3": ("--model.glam.dilations=[1, 2, 3]",),
    "all, activation": ("--model.glam.local_activation=true",),
}
"""What GLAM is made of, as options of `glam train`. Dilations are 1, 3 and 5 by default, and there is no activation."""

TRAINER = (
    *("--trainer.devices=1", "--trainer.limit_val_batches=0", "--trainer.logger=false"),
    *("--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        setting: what ``options`` are called.
        options: of `glam train`, beside those of the variant.
        variant: a key of `VARIANTS`.
        seed: of everything drawn at random.
    """

    setting: str
    options: tuple[str, ...]
    variant: str
    seed: int


def main() -> int:
    """Reads the command line, does what is not done yet, and writes table and plot."""
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
    """The command line; ``setting`` as (name, options) pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with train/, val/ and distractors/")
    parser.add_argument("--setting", action="append", type=_setting, metavar="NAME=OPTIONS", help="`lite0=` by default")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--workers", type=int, default=1, help="processes that read images, for each run")
    parser.add_argument("--no-costs", action="store_true", help="leave out what a step costs: for a busy machine")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no run is begun")
    parser.add_argument("--scratch", type=Path, help="folder for a gigabyte of pixels; the system's by default")
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
    """The lines of a file, one for each run or cost that is done.

    Args:
        path: of the file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    def add(self, line: dict[str, Any]) -> None:
        """Adds a line, on disk at once."""
        self.lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def has_run(self, run: Run) -> bool:
        """Whether that very run is done."""
        return any("ap" in line and line["seed"] == run.seed for line in self._of(run))

    def has_cost(self, run: Run) -> bool:
        """Whether it is known what such a run costs."""
        return any("step_ms" in line for line in self._of(run))

    def _of(self, run: Run) -> list[dict[str, Any]]:
        wanted = (run.setting, run.variant, list(run.options))
        return [line for line in self.lines if (line["setting"], line["variant"], list(line["options"])) == wanted]


def decode(folder: Path, out: Path) -> None:
    """Writes the images of a folder as uncompressed files (PPM), under the same names with ``.ppm`` added."""
    collection = read_folder(folder)

    def write(index: int) -> None:
        target = out / f"{collection.images[index].path}.ppm"
        target.parent.mkdir(parents=True, exist_ok=True)
        read_image(collection.file(index)).save(target)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(len(collection))))


def train_all(runs: Sequence[Run], record: Record, given: argparse.Namespace, folder: Path) -> int:
    """Measures what is not known of the costs, one by one, then trains what is not done, several at a time.

    Returns:
        How many runs failed.
    """
    began, failed = time.monotonic(), 0
    machine = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "versions": versions()}
    waiting = [run for run in runs if not record.has_run(run)]
    for run in waiting:
        if not given.no_costs and not record.has_cost(run):
            record.add(cost(run, folder) | machine)
            print(f"{run.setting}, {run.variant}: {record.lines[-1]['step_ms']} ms a step", flush=True)
    running: dict[Future[dict[str, Any]], Run] = {}
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes below, of which there are enough
    # A fresh interpreter each: a process that has used a GPU cannot be forked into one that uses it.
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
                if future.exception() is not None:  # told, and the other runs go on
                    failed += 1
                    print(f"{name} failed", file=sys.stderr)
                    traceback.print_exception(future.exception())
                    continue
                done = future.result() | machine
                record.add(done)
                print(f"{name}: mAP {100 * done['map']:.2f}, {done['seconds']} s", flush=True)
            if waiting and time.monotonic() - began > 60 * given.minutes:
                print(f"time is up: {len(waiting)} runs are left for another call", flush=True)
                waiting.clear()
    return failed


def _use_gpu(gpus: "multiprocessing.Queue[int]") -> None:
    """Has a process see one GPU only, the next in turn; before it has looked at any."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpus.get())


def configure(run: Run, folder: Path, workers: int) -> TrainingCLI:
    """Network, data and trainer of the recipe `lite0` for a run."""
    data = (f"--data.train={folder / 'train'}", f"--data.val={folder / 'val'}", f"--data.workers={workers}")
    seed = f"--data.seed={run.seed}"
    return build_cli(["--config=lite0", *data, seed, *TRAINER, *run.options, *VARIANTS[run.variant]])


def carry_out(run: Run, folder: Path, workers: int) -> dict[str, Any]:
    """Trains and scores a run.

    Args:
        run: the run.
        folder: folder with `FOLDERS`.
        workers: processes that read images.

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
        device: "cuda" or "cpu", where the trainer trains.

    Returns:
        Scores (fractions), ``ap`` of each query by landmark, ``seconds`` of the training, and ``mib``, its peak of GPU
        memory (None on the CPU).
    """
    on_gpu = device == "cuda"
    gc.collect()  # the run before is held by cycles
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
    """Milliseconds of a training step's forward and backward pass, the peak of its memory on the GPU in MiB (None
    without one), and the weights, of a run's network on random images of its batch size and longest side, 4:3."""
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
