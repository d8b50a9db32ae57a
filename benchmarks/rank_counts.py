"""Exact ranks among a million rows, counted on a GPU and on the CPU.

    python benchmarks/rank_counts.py --device cuda --out benchmarks/results/rank_counts.json

Descriptors are random directions, the hardest case for counting: most scores are close to those of the targets. Each
query has its own targets, as many as a query of Revisited Oxford has positives. Rows are read from memory in blocks,
and the counts of both methods are compared. The last table has fewer rows.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glam.eval.ranks import BLOCK_BYTES, count_above
from glam.eval.ranks.gpu import GpuCounter
from glam.eval.report import versions
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys

QUERIES = 70
TARGETS = 100
BLOCK = 1 << 16
"""Number of descriptors drawn at a time; arbitrary."""

SMALL = (1_000, 3_000, 10_000, 30_000, 100_000)


def directions(count: int, dim: int, seed: int) -> Descriptors:
    """Draws random directions, (count, dim), float32, of unit length."""
    random = np.random.default_rng(seed)
    descriptors = np.empty((count, dim), dtype=np.float32)
    for start in range(0, count, BLOCK):
        block = descriptors[start : start + BLOCK]
        random.standard_normal(block.shape, dtype=np.float32, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return descriptors


def target_keys(queries: Descriptors, rows: Descriptors) -> list[Keys]:
    """Returns the keys of `TARGETS` random rows per query."""
    random = np.random.default_rng(1)
    drawn = [random.choice(len(rows), min(TARGETS, len(rows)), replace=False) for _ in queries]
    return [tie_break_keys(query, rows[some], some) for query, some in zip(queries, drawn, strict=True)]


def best_seconds(run: Callable[[], object], rounds: int = 3) -> float:
    """Returns the shortest time of several runs in seconds, after one run to compile."""
    run()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(min(times), 4)


def on_gpu(queries: Descriptors, keys: Sequence[Keys], rows: Descriptors, device: torch.device) -> list[list[int]]:
    """Counts by the GPU method, on any device."""
    counter = GpuCounter(queries, keys, device)
    size = BLOCK_BYTES // (4 * rows.shape[1])
    for _ in counter.count((rows[start : start + size], start) for start in range(0, len(rows), size)):
        pass
    return [counts.tolist() for counts in counter.above()]


def measure(count: int, dim: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Measures both methods on ``count`` rows."""
    rows, queries = directions(count, dim, 0), directions(QUERIES, dim, 1)
    keys = target_keys(queries, rows)
    by_cpu = [counts.tolist() for counts in count_above(queries, keys, [rows])]
    assert on_gpu(queries, keys, rows, device) == by_cpu, "the counts differ"
    cpu = best_seconds(lambda: count_above(queries, keys, [rows]), rounds)
    gpu = best_seconds(lambda: on_gpu(queries, keys, rows, device), rounds)
    return {"rows": count, "dim": dim, "cpu_seconds": cpu, "gpu_seconds": gpu, "share": round(gpu / cpu, 4)}


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=1_001_001)
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    result = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "cpu_threads": torch.get_num_threads(),
        "queries": QUERIES,
        "targets_per_query": TARGETS,
        "large": [measure(options.rows, dim, device, 3) for dim in options.dims],
        "small": [measure(count, 512, device, 5) for count in SMALL],
        "versions": versions(),
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
