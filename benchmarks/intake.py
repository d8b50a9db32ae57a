"""Cost of intake: the share of describing that is neither decoding, resizing, nor the network; and listing a folder.

    python benchmarks/intake.py --count 5000
    python benchmarks/intake.py --count 500 --names 20000 --out /tmp/intake.json      a quick run

Share: the images are scanned, read, and hashed as by `glam index build`, and described by the bundled model, with one
thread per library. The CPU time of the process, of all threads, less that of the calls that decode, resize, or run the
network, by `time.thread_time`, is intake: scan, open, read, header, orientation, queues, threads, and error handling.
Hashing is counted and given apart. The images are JPEGs of 640 x 480 pixels with distinct contents.

Listing: a folder scan of empty files, next to `os.walk` alone, in turn.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from describe import machine, make_files

import glam
from glam.datasets.readers import read_collection, read_folder
from glam.index.operations.image_files import read_ahead

SIZE = (640, 480)

DECODE, NETWORK, HASH = "decode and resize", "network", "hash"

CALLS = {
    "glam.inference.decode.decode_jpeg": DECODE,
    "glam.inference.decode._decode_with_pillow": DECODE,
    "glam.inference.decode.resize": DECODE,
    "glam.inference.pipeline.describe_pixels": NETWORK,
    "glam.index.operations.image_files.digest": HASH,
}
"""Calls whose CPU time is measured; none of them calls another."""


def intake_share(folder: Path, model_name: str) -> dict[str, Any]:
    """Measures the CPU time of describing a folder, by part.

    Args:
        folder: folder of images.
        model_name: name of a model.
    """
    model = glam.load(model_name, "cpu")
    settings = model.settings()
    next(iter(model.stream([(read_collection(folder).file(0), None)], settings)))  # first use of the libraries
    seconds: dict[str, float] = defaultdict(float)
    with ExitStack() as patches:
        for name, part in CALLS.items():
            patches.enter_context(patch(name, _timed(_function(name), part, seconds)))
        wall, began = time.perf_counter(), time.process_time()
        collection = read_collection(folder)
        scan = time.process_time() - began
        files = read_ahead(collection.root, collection.images)
        described = sum(
            image.error is None for image in model.stream(((file.source, None) for file in files), settings)
        )
        total = time.process_time() - began
    assert described == len(collection)
    intake = total - seconds[DECODE] - seconds[NETWORK]
    return {
        "images": described,
        "size": settings.size,
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": {
            "total": round(total, 2),
            **{part: round(seconds[part], 2) for part in (NETWORK, DECODE, HASH)},
            "scan": round(scan, 3),
            "intake": round(intake, 2),
            "intake without hash": round(intake - seconds[HASH], 2),
        },
        "share_percent": round(100 * intake / total, 2),
        "share_without_hash_percent": round(100 * (intake - seconds[HASH]) / total, 2),
        "intake_ms_per_image": round(1000 * intake / described, 3),
    }


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def _timed(function: Callable[..., Any], part: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """The function, with its CPU time added to a part. Threads can lose a time to each other, a few in a million."""

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] += time.thread_time() - began

    return timed


def add_comments(files: list[Path]) -> None:
    """Gives each JPEG a comment of its own, so that all contents differ."""
    for number, file in enumerate(files):
        comment = f"{number:08d}".encode()
        content = file.read_bytes()
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
        file.write_bytes(content[:2] + marker + comment + content[2:])


def listing(names: int, folders: int, rounds: int) -> dict[str, Any]:
    """Measures how long a folder of empty files takes to list.

    Args:
        names: number of files.
        folders: number of folders that they are in, evenly.
        rounds: number of times that each way is measured; the median is reported.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i in range(folders):
            folder = root / f"{i % 50:02d}" / f"{i:05d}"
            folder.mkdir(parents=True)
            for j in range(names // folders):
                (folder / f"IMG_{j:05d}.jpg").touch()
        ways: dict[str, Callable[[], int]] = {
            "scan_s": lambda: len(read_folder(root)),
            "os_walk_s": lambda: sum(len(files) for _, _, files in os.walk(root)),
        }
        seconds: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for way, count in ways.items():
                began = time.perf_counter()
                assert count() == names // folders * folders
                seconds[way].append(time.perf_counter() - began)
    return {
        "names": names,
        "folders": folders,
        **{way: round(statistics.median(values), 3) for way, values in seconds.items()},
    }


def main() -> None:
    """Measures both and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5_000, help="number of images to describe")
    parser.add_argument("--model", default="glam-lite0")
    parser.add_argument("--folder", type=Path, default=Path("../shared/landmarks/val"), help="photos to use, if there")
    parser.add_argument("--names", type=int, default=200_000, help="number of files to list")
    parser.add_argument("--folders", type=int, default=2_000, help="number of folders that they are in")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/intake.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that the time of the calling thread is all of it
    listed = listing(options.names, options.folders, options.rounds)
    print(json.dumps(listed, indent=2), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        add_comments(make_files(options.folder, Path(folder), options.count, [SIZE]))
        share = intake_share(Path(folder), options.model)
    print(json.dumps(share, indent=2), flush=True)
    result = {
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "photos": options.folder.is_dir(),
        "machine": machine(torch.device("cpu")),
        "share": share,
        "listing": listed,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
