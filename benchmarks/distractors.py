"""Revisited Oxford with a million random distractors: counting ranks (`glam.eval.revisitop`) compared with sorting.

    python benchmarks/distractors.py --gnd gnd_roxford5k.pkl [--out benchmarks/results/distractors.json]

Queries, database, and distractors are random directions, the hardest case for counting: the distractors' scores are
densest where the positives' are. Each method runs twice in its own process, and reads the same memory-mapped file.
Memory is the increase of the process's memory without that file.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glam.eval.descriptor_readers import read_descriptors
from glam.eval.ground_truth import GroundTruth, read_ground_truth
from glam.eval.report import versions
from glam.eval.revisitop import PROTOCOLS, score_revisited

DISTRACTORS = 1_001_001
DIM = 512


def sort_everything(
    truth: GroundTruth, queries: NDArray[np.float32], database: NDArray[np.float32], distractors: NDArray[np.float32]
) -> dict[str, float]:
    """Computes mAP by protocol like the benchmark's original program: sort all scores, and search per protocol."""
    # NumPy has no fast product of float16.
    descriptors = np.concatenate([database, distractors]).astype(np.float32, copy=False)
    scores = descriptors @ queries.T.astype(np.float32, copy=False)
    rankings = np.argsort(-scores, axis=0)
    return {name: _mean_ap(rankings, truth, *grades) for name, grades in PROTOCOLS.items()}


def _mean_ap(rankings: NDArray[np.int64], truth: GroundTruth, positive: Sequence[str], junk: Sequence[str]) -> float:
    ranks = np.arange(len(rankings))
    aps = []
    for ranking, query in zip(rankings.T, truth.queries, strict=True):
        found = ranks[np.isin(ranking, query.indices(*positive))]
        found -= np.searchsorted(ranks[np.isin(ranking, query.indices(*junk))], found)
        if len(found):
            aps.append(_average_precision(found))
    return float(np.mean(aps))


def _average_precision(ranks: NDArray[np.int64]) -> float:
    area = 0.0
    for j, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else j / rank
        area += (before + (j + 1) / (rank + 1)) / 2 / len(ranks)
    return area


def count(
    truth: GroundTruth, queries: NDArray[np.float32], database: NDArray[np.float32], distractors: NDArray[np.float32]
) -> dict[str, float]:
    """Computes mAP by protocol by counting ranks."""
    scores = score_revisited(truth, queries, database, [distractors])
    return {name: protocol.mean_ap for name, protocol in scores.items()}


WAYS: dict[str, Callable[..., dict[str, float]]] = {"counting": count, "sorting": sort_everything}


def measure(way: str, gnd: Path, folder: Path) -> None:
    """Runs one method in this process, and prints its time, memory, and results as JSON."""
    truth = read_ground_truth(gnd)
    queries, database, distractors = (read_descriptors(str(folder / f"{name}.npy"), name) for name in _shapes(truth))
    _ = sum(
        float(distractors[start : start + 4096].sum()) for start in range(0, len(distractors), 4096)
    )  # loads the pages
    before = own_memory()
    seconds = []
    with watched_memory() as peak:
        for _ in range(2):
            began = time.perf_counter()
            results = WAYS[way](truth, queries, database, distractors)
            seconds.append(round(time.perf_counter() - began, 3))
    print(json.dumps({"seconds": seconds, "memory_mib": round(max(peak) - before), "map": results}))


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Records `own_memory` every 10 ms while the block runs."""
    seen = [own_memory()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            seen.append(own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def own_memory() -> float:
    """Returns the memory of the process in MiB, without mapped files."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def _shapes(truth: GroundTruth) -> dict[str, int]:
    return {"queries": len(truth.queries), "database": len(truth.images), "distractors": DISTRACTORS}


def _make(folder: Path, truth: GroundTruth, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for name, n in _shapes(truth).items():
        descriptors = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.dtype(dtype), (n, DIM))
        for start in range(0, n, 65536):
            block = rng.standard_normal((min(65536, n - start), DIM), dtype=np.float32)
            descriptors[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        descriptors.flush()


def main() -> None:
    """Makes the descriptors, measures both methods one after the other, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gnd", type=Path, required=True)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float32")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/distractors.json"))
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], options.gnd, Path(options.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder), read_ground_truth(options.gnd), options.dtype)
        command = [sys.executable, __file__, "--gnd", str(options.gnd), "--measure"]
        ways = {way: json.loads(subprocess.check_output([*command, way, folder])) for way in WAYS}
    machine = {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    share = min(ways["counting"]["seconds"]) / min(ways["sorting"]["seconds"])
    what = {"distractors": DISTRACTORS, "dim": DIM, "dtype": options.dtype, "ground_truth": options.gnd.name}
    result = {**what, "time_share": round(share, 4), **ways, "machine": machine, "versions": versions()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
