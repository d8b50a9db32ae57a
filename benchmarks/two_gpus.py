"""Training on two GPUs compared with one: the same mAP from the same number of images per step.

    python benchmarks/two_gpus.py ../shared/landmarks/train --val ../shared/landmarks/val --out two_gpus.json

Trains a configuration on one and on several devices, one run per seed, with the same number of images per step, divided
among the devices. Compares validation mAP of the best epochs, and seconds. Runs that are in --out are skipped. The
speedup is measured at 64 images of 512 pixels per GPU:

    python benchmarks/train_speed.py --variants any any+trainer.devices=2 --steps 400
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from glam.model_file import read_header

Run = dict[str, float]
"""``devices``, ``seed``, ``val_map`` of the best epoch, and ``seconds`` of wall-clock time."""


def train(options: argparse.Namespace, devices: int, seed: int) -> Run:
    """Trains once.

    Args:
        options: command line.
        devices: number of devices.
        seed: seed of all random numbers.

    Raises:
        subprocess.CalledProcessError: the training failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "glam.app", "train", "--config", options.config, "--out", folder),
            *("--data.train", str(options.train), "--data.val", str(options.val), "--data.seed", str(seed)),
            *("--data.batch_size", str(options.batch_size // devices), "--trainer.devices", str(devices)),
            *("--trainer.accelerator", options.accelerator, *options.more),
        ]
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = round(time.perf_counter() - began, 1)
        header = read_header(Path(folder) / "model.safetensors")
    return {"devices": devices, "seed": seed, "val_map": header.training["val_map"], "seconds": seconds}


def show(runs: Sequence[Run]) -> None:
    """Prints mean mAP with its standard deviation over seeds, and median seconds, per number of devices."""
    print("devices  runs   mAP            seconds")
    for devices in sorted({run["devices"] for run in runs}):
        mine = [run for run in runs if run["devices"] == devices]
        scores = [100 * run["val_map"] for run in mine]
        spread = statistics.stdev(scores) if len(scores) > 1 else float("nan")
        seconds = statistics.median(run["seconds"] for run in mine)
        print(f"{devices:7}  {len(mine):4}  {statistics.mean(scores):5.1f} +- {spread:4.1f}  {seconds:7.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="folder with one sub-folder per training landmark")
    parser.add_argument("--val", type=Path, required=True, help="folder of other landmarks")
    parser.add_argument("--config", default="lite0")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, default=64, help="images per step, over all devices")
    parser.add_argument("--accelerator", default="gpu")
    parser.add_argument("--out", type=Path, default=Path("two_gpus.json"))
    parser.epilog = "Options of `glam train` can follow after --."
    split = [*sys.argv, "--"].index("--")
    options = parser.parse_args(sys.argv[1:split])
    options.more = sys.argv[split + 1 :]
    runs: list[Run] = json.loads(options.out.read_text()) if options.out.exists() else []
    for seed in options.seeds:
        for devices in options.devices:
            if not any((run["devices"], run["seed"]) == (devices, seed) for run in runs):
                runs.append(train(options, devices, seed))
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(runs, indent=2) + "\n")
    show(runs)


if __name__ == "__main__":
    main()
