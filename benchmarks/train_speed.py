"""Training speed of `glam train --config gldv2_r101` in images per second, from JPEG files.

    python benchmarks/train_speed.py --out benchmarks/results/train_speed.json
    python benchmarks/train_speed.py --variants any+frozen any+data.batch_size=128 --steps 400
    python benchmarks/train_speed.py --variants each+frozen --ratios 4:3 3:4       # fewer sizes to compile for
    python benchmarks/train_speed.py --small --variants eager any                  # tries the script, on any machine

The script first writes ``train_clean.csv`` and folders in the layout of Google Landmarks v2: 81,313 landmarks of one
image each, 800 pixels on the longest side, about 120 KB. Only --distinct files differ, and the others are hard links,
so that reads come from the disk cache and the speed of the disk is not measured. The network has random weights, which
cost the same as ImageNet weights. The speed is the median over stretches of --stretch steps, without the first, which
includes compilation.

A variant consists of parts joined by "+": "eager"; "any" or "each" (compiled once for all image sizes, or for each);
"frozen" (batch norm); "workers" (augmentation in the workers instead of on the GPU); "cudnn" (cuDNN benchmarks its
algorithms); or any option of `glam train`, such as "data.workers=8". Each variant runs in its own process. Variants
that are in --out are skipped, and those that do not fit into --minutes are left for the next call.
"""

import argparse
import csv
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LANDMARKS = 81_313
LONGEST = 800
PARTS = {
    "eager": ["--model.compiled", "no"],
    "any": ["--model.compiled", "any_size"],
    "each": ["--model.compiled", "each_size"],
    "frozen": ["--model.freeze_batch_norm", "true"],
    "workers": ["--data.augment_on", "workers"],
    "cudnn": ["--trainer.benchmark", "true"],
}
SMALL = [
    *("--model.backbone", "resnet10t", "--model.glam", "{reduction: 16}", "--data.size", "96"),
    *("--data.batch_size", "8", "--data.workers", "1"),
]
ENDING = 15.0
"""Seconds that a variant gets to finish after the time is up; arbitrary."""


@dataclass(frozen=True)
class Result:
    """Result of a variant.

    Attributes:
        variant: name of the variant.
        steps: number of steps.
        images_per_second: training speed, median over the stretches after the first.
        waiting: fraction of the time that the process waits for data, median over the same stretches.
        first_seconds: seconds of the first stretch, which includes the start of the workers and compilation.
        workers: number of processes that read images.
        batch_size: number of images per step.
        peak_gib: peak of the GPU memory of tensors in GiB; 0 on a CPU.
        device: name of the device.
        stretches: training speed of each stretch in images per second, in order.
    """

    variant: str
    steps: int
    images_per_second: float
    waiting: float
    first_seconds: float
    workers: int
    batch_size: int
    peak_gib: float
    device: str
    stretches: tuple[float, ...] = ()


def make_tree(root: Path, *, landmarks: int, distinct: int, ratios: Sequence[str]) -> None:
    """Writes a synthetic part of Google Landmarks v2: ``train_clean.csv``, ``train/``, and ``val/`` for validation.

    Args:
        root: folder to write to; unchanged if it already has the table.
        landmarks: number of landmarks, with one image each.
        distinct: number of distinct files; the images are links to them in turn.
        ratios: aspect ratios (width to height) of the images in turn, such as "4:3".
    """
    if (root / "train_clean.csv").exists():
        return
    stock = root / "stock"
    stock.mkdir(parents=True)
    per_process = -(-distinct // (8 * (os.cpu_count() or 1)))
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_jpeg, stock, ratios), range(distinct), chunksize=per_process))
    draw = random.Random(0)
    ids = [f"{draw.getrandbits(64):016x}" for _ in range(landmarks)]
    for i, id in enumerate(ids):
        file = root / "train" / id[0] / id[1] / id[2] / f"{id}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(stock / f"{i % distinct}.jpg", file)
    (root / "val").mkdir()
    (root / "val" / "train").symlink_to(root.resolve() / "train")
    _write_table(root / "val" / "train_clean.csv", [f"{ids[i]} {ids[i + 1]}" for i in range(0, 8, 2)])
    _write_table(root / "train_clean.csv", ids)


def _write_table(file: Path, images: Sequence[str]) -> None:
    lines = (f"{landmark},{ids}\n" for landmark, ids in enumerate(images))
    file.write_text("landmark_id,images\n" + "".join(lines))


_canvas: Image.Image | None = None
"""Noise of this process, which images are cropped from."""


def _write_jpeg(folder: Path, ratios: Sequence[str], i: int) -> None:
    """Writes JPEG number ``i``: noise whose amplitude falls with its frequency, as in photos."""
    global _canvas
    if _canvas is None:
        _canvas = _draw_canvas(2 * LONGEST, os.getpid())
    random = np.random.default_rng(i)
    across, down = (int(part) for part in ratios[i % len(ratios)].split(":"))
    width, height = (round(LONGEST * side / max(across, down)) for side in (across, down))
    left, top = int(random.integers(2 * LONGEST - width)), int(random.integers(2 * LONGEST - height))
    _canvas.crop((left, top, left + width, top + height)).save(folder / f"{i}.jpg", quality=90)


def _draw_canvas(side: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    total = np.full((side, side, 3), 128, dtype=np.float32)
    for cells, strength in ((8, 70), (32, 40), (128, 20), (512, 10), (side, 5)):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += (
            np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 128 - 1
        ) * strength
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def overrides(variant: str) -> list[str]:
    """Returns the options of `glam train` for a variant.

    Args:
        variant: parts joined by "+", see the top of this file.

    Raises:
        ValueError: a part is unknown.
    """
    arguments = []
    for part in variant.split("+"):
        option, equals, value = part.partition("=")
        if not equals and part not in PARTS:
            raise ValueError(f"Unknown part {part!r}. Choose {', '.join(PARTS)}, or an option such as data.workers=8.")
        arguments += [f"--{option}", value] if equals else PARTS[part]
    return arguments


def measure(variant: str, tree: Path, options: argparse.Namespace, until: float) -> Result:
    """Trains a variant in this process.

    Args:
        variant: name of the variant.
        tree: folder that `make_tree` wrote.
        options: command line.
        until: time (`time.time`) to stop at.

    Raises:
        RuntimeError: the time was up before the first stretch ended.
    """
    import torch
    from lightning.pytorch.callbacks import LambdaCallback

    from glam.training.cli import build_cli
    from glam.training.configs import bundled_configs
    from glam.training.divergence import StopIfDiverged
    from glam.training.throughput import FewerWaits, Throughput

    warnings.filterwarnings("ignore", module="lightning")
    on_gpu = torch.cuda.is_available()
    arguments = [
        *("--config", str(bundled_configs()["gldv2_r101"]), "--model.pretrained", "false"),
        *("--data.train", str(tree), "--data.val", str(tree / "val"), "--data.augment_on", "device"),
        *("--trainer.precision", "bf16-mixed" if on_gpu else "32-true", "--trainer.devices", "1"),
        *("--trainer.max_steps", str(options.steps), "--trainer.limit_val_batches", "0"),
        *("--trainer.logger", "false", "--trainer.enable_checkpointing", "false"),
        *("--trainer.enable_progress_bar", "false"),
        *(SMALL if options.small else []),
        *overrides(variant),
    ]
    cli = build_cli(arguments)

    def stop_in_time(trainer: Any, *_: Any) -> None:
        if trainer.global_step % options.stretch == 0:  # rarely, because all processes must agree
            trainer.should_stop |= trainer.strategy.broadcast(time.time() > until)

    throughput = Throughput(options.stretch)
    stop = LambdaCallback(on_train_batch_end=stop_in_time)
    checks = StopIfDiverged(save_every=1000)
    cli.trainer.callbacks += [throughput, FewerWaits(), checks, stop]  # type: ignore[attr-defined]
    cli.trainer.fit(cli.model, cli.datamodule)
    if not throughput.stretches:
        raise RuntimeError(f"{variant}: the time was up before {options.stretch} steps. Raise --minutes.")
    first, *others = throughput.stretches
    steady = others or [first]
    batch_size = cli.datamodule.batch_size
    return Result(
        variant=variant,
        steps=steady[-1].step,
        images_per_second=round(statistics.median(stretch.images_per_second for stretch in steady), 1),
        waiting=round(statistics.median(stretch.waiting for stretch in steady), 4),
        first_seconds=round(options.stretch * batch_size / first.images_per_second, 1),
        workers=cli.datamodule.workers,
        batch_size=batch_size,
        peak_gib=round(torch.cuda.max_memory_allocated() / 2**30, 1) if on_gpu else 0.0,
        device=torch.cuda.get_device_name() if on_gpu else platform.machine(),
        stretches=tuple(round(stretch.images_per_second, 1) for stretch in throughput.stretches),
    )


def run_all(tree: Path, options: argparse.Namespace, results: list[Result], until: float) -> None:
    """Runs the variants that ``results`` lacks, each in its own process, and adds their results."""
    for variant in options.variants:
        left = until - time.time()
        if any(result.variant == variant for result in results):
            continue
        if left < options.least:
            print(f"{variant}: left for the next call", flush=True)
            continue
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            passed = ["--measure", variant, file.name, str(until - ENDING), "--tree", str(tree)]
            command = [sys.executable, __file__, *sys.argv[1:], *passed]
            print(f"\n{variant}", flush=True)
            try:
                code = subprocess.run(command, timeout=left).returncode
            except subprocess.TimeoutExpired:
                code = "timeout"
            if code != 0:
                print(f"{variant}: failed ({code})", flush=True)
                continue
            results.append(Result(**json.loads(Path(file.name).read_text())))
        save(options.out, results)


def save(path: Path, results: Sequence[Result]) -> None:
    """Writes the results as JSON, with hardware and versions, and as CSV."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
    path.write_text(json.dumps({**machine, "results": [asdict(result) for result in results]}, indent=2) + "\n")
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        columns = [name for name in Result.__annotations__ if name != "stretches"]
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(asdict(result) for result in results)


def read_results(path: Path) -> list[Result]:
    """Reads the results in a file; empty if there is no such file."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["results"] if path.exists() else []
    return [Result(**row) for row in found]


def show(results: Sequence[Result]) -> None:
    """Prints the results as a table."""
    print(f"\n{'variant':32} images/s  waiting  steps  first stretch  workers  batch    GiB")
    for r in results:
        figures = f"{r.images_per_second:8.0f}  {r.waiting:7.1%}  {r.steps:5}  {r.first_seconds:11.0f} s"
        print(f"{r.variant:32} {figures}  {r.workers:7}  {r.batch_size:5}  {r.peak_gib:5.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["any", "any+frozen", "eager"])
    parser.add_argument("--steps", type=int, default=200, help="maximum number of steps per variant")
    parser.add_argument("--stretch", type=int, default=50, help="steps per stretch; the speed is that of the last")
    parser.add_argument("--minutes", type=float, default=5.5, help="total time in minutes")
    parser.add_argument("--least", type=float, default=75, help="seconds that must be left to start a variant")
    parser.add_argument("--tree", type=Path, help="folder to keep the files in for the next call")
    parser.add_argument("--distinct", type=int, default=8192, help="number of distinct files")
    parser.add_argument(
        "--ratios", nargs="+", default=["4:3", "4:3", "3:2", "3:4"], help="aspect ratios of the images, in turn"
    )
    parser.add_argument("--small", action="store_true", help="use a small network and few landmarks, to try the script")
    parser.add_argument(
        "--out", type=Path, default=Path("train_speed.json"), help="JSON file to write, and a CSV file of the same name"
    )
    parser.add_argument("--measure", nargs=3, metavar=("VARIANT", "FILE", "UNTIL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        variant, file, until = options.measure
        result = measure(variant, options.tree, options, float(until))
        if os.environ.get("LOCAL_RANK", "0") == "0":  # Lightning runs this script once per GPU
            Path(file).write_text(json.dumps(asdict(result)))
        return
    for variant in options.variants:
        overrides(variant)  # raises before any work is done
    began = time.time()
    results = read_results(options.out)
    with tempfile.TemporaryDirectory() as folder:
        tree = options.tree or Path(folder) / "gldv2"
        landmarks, distinct = (500, 40) if options.small else (LANDMARKS, options.distinct)
        make_tree(tree, landmarks=landmarks, distinct=distinct, ratios=options.ratios)
        print(f"files written in {time.time() - began:.0f} s", flush=True)
        run_all(tree, options, results, began + 60 * options.minutes)
    show(results)


if __name__ == "__main__":
    main()
