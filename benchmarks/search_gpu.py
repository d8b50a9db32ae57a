"""Search of a large index on a GPU, from descriptor to hits, compared with the kernel alone and with the CPU.

    python benchmarks/search_gpu.py --device cuda --rows 1000000 10000000 --out benchmarks/results/search_gpu.json
    python benchmarks/search_gpu.py --device cuda --small --out benchmarks/results/search_gpu_small.json

Each index has generated descriptors of landmarks (a center plus noise) and no image files. Times are medians: of
`Index.search` for one query (``hits``); of the search structure for 1, 32, and 1,024 queries; and of the top-k kernel
for the same float16 descriptors. The CPU searches the same index by IVF-PQ (``--cpu ivf_pq``) or brute force. Recall@10
is relative to float64 inner products. ``--small`` finds the number of rows from which the GPU is faster.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from glam.index import Index
from glam.index.ann import build_structure
from glam.index.ann.exact import Exact
from glam.index.ann.exact_gpu import EXTRA, ExactGpu
from glam.index.storage.records import FileFacts, IndexConfig
from glam.index.types import Descriptors
from glam.index.writer import ImageToAdd, open_writer
from glam.kernels import top_k

DIM = 512
K = 10
PER_LANDMARK = 20
NOISE = 0.7
BATCH = 1 << 17
QUERIES = 200
SMALL = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


def landmark_descriptors(seed: int, count: int, dim: int, device: str) -> Descriptors:
    """Draws descriptors, (count, dim), of unit length; each `PER_LANDMARK` consecutive ones share a center."""
    random = torch.Generator(device).manual_seed(seed)
    centers = torch.randn((count // PER_LANDMARK + 1, dim), device=device, generator=random)
    noise = torch.randn((count, dim), device=device, generator=random)
    mixed = centers.repeat_interleave(PER_LANDMARK, dim=0)[:count] + NOISE * noise
    descriptors: Descriptors = torch.nn.functional.normalize(mixed, dim=1).cpu().numpy()
    return descriptors


def make_index(path: Path, count: int, dim: int, device: str) -> float:
    """Writes an index of ``count`` generated images; returns the seconds."""
    began = time.perf_counter()
    config = IndexConfig("made up", "0" * 16, dim, 320, (1.0,), str(path.parent), Exact.kind)
    with open_writer(path, begin=config) as writer:
        for start in range(0, count, BATCH):
            descriptors = landmark_descriptors(start, min(BATCH, count - start), dim, device)
            writer.add([
                ImageToAdd(FileFacts(f"{i:09d}.jpg", "", "{}", "", 1, 1), 320, 240, descriptor)
                for i, descriptor in enumerate(descriptors, start)
            ])  # fmt: skip
    return time.perf_counter() - began


def median_ms(run: Callable[[int], object], rounds: int = QUERIES) -> float:
    """Returns the median milliseconds of ``run(i)``, which must return when its result is on the host."""
    for i in range(5):
        run(i)
    times = []
    for i in range(rounds):
        began = time.perf_counter()
        run(i)
        times.append(1000 * (time.perf_counter() - began))
    return round(float(np.median(times)), 3)


def kernel_ms(structure: ExactGpu, queries: Descriptors, count: int) -> float:
    """Returns the median milliseconds of the top-k kernel alone, measured by CUDA events."""
    if structure._half.device.type == "cpu":
        return median_ms(lambda i: top_k(torch.from_numpy(queries[:count]).half(), structure._half, K), 5)
    from triton.testing import do_bench

    half = torch.from_numpy(queries[:count]).to(structure._half.device).half()
    return round(float(do_bench(lambda: top_k(half, structure._half, K + EXTRA), return_mode="median")), 3)


def recall(found: Sequence[Sequence[int]], wanted: np.ndarray[Any, Any]) -> float:
    """Returns the fraction of the true neighbors that were found."""
    hits = sum(len(set(some) & set(row.tolist())) for some, row in zip(found, wanted, strict=True))
    return round(hits / wanted.size, 4)


def best_in_double(index: Index, queries: Descriptors, device: torch.device) -> np.ndarray[Any, Any]:
    """Returns the image ids of the nearest rows by float64 inner products, (q, K)."""
    asked = torch.from_numpy(queries).to(device).double()
    scores = torch.empty((len(queries), 0), device=device, dtype=torch.float64)
    rows = torch.empty((len(queries), 0), device=device, dtype=torch.int64)
    for start in range(0, len(index), BATCH):
        block = index.matrix[start : min(start + BATCH, len(index))]
        more = asked @ torch.from_numpy(np.array(block)).to(device).double().T
        numbers = torch.arange(start, start + len(block), device=device).expand(len(queries), -1)
        scores, rows = torch.cat([scores, more], dim=1), torch.cat([rows, numbers], dim=1)
        scores, order = scores.topk(min(K, scores.shape[1]), dim=1)
        rows = rows.gather(1, order)
    wanted: np.ndarray[Any, Any] = index.image_ids[rows.cpu().numpy()]
    return wanted


def measure(work: Path, count: int, dim: int, device: str, cpu: str) -> dict[str, Any]:
    """Measures an index of ``count`` rows on the GPU and on the CPU."""
    path = work / f"{count}.glam"
    result: dict[str, Any] = {
        "rows": count,
        "dim": dim,
        "write_seconds": round(make_index(path, count, dim, device), 1),
    }
    rng = np.random.default_rng(1)
    began = time.perf_counter()
    with Index.open(path, device=device) as index:
        result["open_seconds"] = round(time.perf_counter() - began, 1)
        if device == "cpu":  # without a GPU, to try the script
            index._structure = ExactGpu.build(index.matrix, torch.device(device))
        structure = index._structure
        assert isinstance(structure, ExactGpu), structure
        drawn = index.descriptors(np.sort(rng.choice(index.image_ids, 1_024)).tolist())
        queries = drawn + 0.5 / dim**0.5 * rng.standard_normal(drawn.shape, dtype=np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        index.search(queries[0], K)  # fits the calibration
        wanted = best_in_double(index, queries[:QUERIES], torch.device(device))
        found = [[hit.image_id for hit in hits] for hits in index.search(queries[:QUERIES], K)]
        result["gpu"] = {
            "memory_bytes": structure.memory_bytes,
            "recall_at_10": recall(found, wanted),
            "hits_ms": median_ms(lambda i: index.search(queries[i], K)),
            "hits_filtered_ms": median_ms(lambda i: index.search(queries[i], K, where="image_id % 10 = 0"), 50),
            "structure_ms": {q: median_ms(lambda i, q=q: structure.search(queries[:q], K), 50) for q in (1, 32, 1024)},
            "kernel_ms": {q: kernel_ms(structure, queries, q) for q in (1, 32, 1024)},
        }
        result["gpu"]["hits_over_kernel"] = round(result["gpu"]["hits_ms"] / result["gpu"]["kernel_ms"][1], 2)
        descriptors = index.matrix
        if cpu != "none":
            del structure
            began = time.perf_counter()
            index._structure = build_structure(descriptors, cpu)
            result["cpu"] = {"kind": cpu, "threads": faiss.omp_get_max_threads()}
            result["cpu"]["build_seconds"] = round(time.perf_counter() - began, 1)
            found = [[hit.image_id for hit in hits] for hits in index.search(queries[:QUERIES], K)]
            rounds = QUERIES if cpu == "ivf_pq" else 10
            result["cpu"]["recall_at_10"] = recall(found, wanted)
            result["cpu"]["hits_ms"] = median_ms(lambda i: index.search(queries[i % QUERIES], K), rounds)
    return result


def small(dim: int, device: str) -> list[dict[str, Any]]:
    """Compares brute force on the GPU and on the CPU for few rows."""
    table = []
    for count in SMALL:
        descriptors = landmark_descriptors(0, count, dim, device)
        on_cpu, on_gpu = Exact.build(_Rows(descriptors)), ExactGpu.build(_Rows(descriptors), torch.device(device))
        table.append({
            "rows": count,
            "cpu_ms": median_ms(lambda i, on=on_cpu, all=descriptors: on.search(all[i : i + 1], K)),
            "gpu_ms": median_ms(lambda i, on=on_gpu, all=descriptors: on.search(all[i : i + 1], K)),
        })  # fmt: skip
    return table


class _Rows:
    """Descriptors in memory, with the interface of the descriptors of an index."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.descriptors, self.dim = descriptors, descriptors.shape[1]

    def __len__(self) -> int:
        return len(self.descriptors)

    def __getitem__(self, rows: Any) -> Descriptors:
        return self.descriptors[rows]

    def inner_products(self, query: Descriptors, rows: Any) -> Any:
        return self.descriptors[rows] @ query


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--cpu", choices=["ivf_pq", "exact", "none"], default="ivf_pq")
    parser.add_argument("--small", action="store_true", help="compare GPU and CPU for few rows only")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    results: dict[str, Any] = {"device": name, "k": K}
    if options.small:
        results["small"] = small(options.dim, options.device)
    else:
        with tempfile.TemporaryDirectory() as work:
            results["indexes"] = [
                measure(Path(work), count, options.dim, options.device, options.cpu) for count in options.rows
            ]
    text = json.dumps(results, indent=2) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
