"""Peak memory of `glam index build`, by number and size of the photos.

    python benchmarks/build_memory.py
    python benchmarks/build_memory.py --counts 200 2000 --large 4 --out /tmp/memory.json      a quick run

Memory that grows with the number of photos shows in many tiny JPEGs of 64 x 48 pixels with distinct contents, described
at 32 pixels by a small network with random weights, which takes minutes instead of an hour. Memory of decoding shows in
a few JPEGs and PNGs of 12 megapixels, described by the bundled model. The total for a large folder is about the sum.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

NETWORK = "test_resnet"
"""A network of timm for tests, with 0.5 million weights."""

TINY, LARGE = (64, 48), (4000, 3000)
"""Width and height in pixels; 12 megapixels is the usual size of phones."""


def write_tiny(folder: Path, count: int) -> None:
    """Writes JPEGs of noise, 1,000 per sub-folder."""
    random = np.random.default_rng(0)
    for number in range(count):
        below = folder / f"{number // 1000:04d}"
        below.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(TINY).save(below / f"IMG_{number:06d}.jpg", quality=60)


def write_large(folder: Path, count: int) -> None:
    """Writes JPEGs and PNGs of blurred noise in turn."""
    random = np.random.default_rng(1)
    for number in range(count):
        pixels = random.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize(LARGE)
        image.save(folder / f"DSC_{number:04d}.{('jpg', 'png')[number % 2]}")


def peak_of_build(folder: Path, options: list[str]) -> dict[str, Any]:
    """Builds an index in a process of its own, and records its peak memory.

    Args:
        folder: folder of images.
        options: further options of `glam index build`.
    """
    with tempfile.TemporaryDirectory() as name:
        command = [
            str(Path(sys.executable).with_name("glam")),
            "index",
            "build",
            f"{name}/i.glam",
            str(folder),
            *options,
        ]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        anonymous: list[int] = []
        watcher = threading.Thread(target=_watch, args=(process, anonymous))
        watcher.start()
        said = process.communicate()[0]
        watcher.join()
        assert process.returncode == 0, said
        disk = sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file())
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mib": round(max(anonymous) / 1024),
        "index_mib": round(disk / 2**20, 1),
    }


def _watch(process: "subprocess.Popen[str]", anonymous: list[int]) -> None:
    """Collects the memory of a process in KiB, without mapped files, until it ends."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text(encoding="ascii").splitlines()
        anonymous += [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
        time.sleep(0.05)


def main() -> None:
    """Measures each number of photos, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 100_000], help="numbers of tiny photos")
    parser.add_argument("--large", type=int, default=40, help="number of large photos")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/build_memory.json"))
    options = parser.parse_args()
    rows = []
    for photos, count in [*(("tiny", count) for count in options.counts), ("large", options.large)]:
        with tempfile.TemporaryDirectory() as name:
            folder, weights = Path(name, "photos"), Path(name, "random.pth")
            folder.mkdir()
            if photos == "tiny":
                write_tiny(folder, count)
                torch.save(timm.create_model(NETWORK).state_dict(), weights)
                measured = peak_of_build(folder, ["--size", "32", "--model", f"timm:{NETWORK}@{weights}"])
            else:
                write_large(folder, count)
                measured = peak_of_build(folder, [])
        rows.append({"photos": photos, "count": count, **measured})
        print(rows[-1], flush=True)
    result = {"command": "python benchmarks/build_memory.py", "cores": os.cpu_count(), "builds": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
