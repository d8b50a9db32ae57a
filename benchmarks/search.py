"""Search in a million generated descriptors: the structure of a large index compared with exact search and libraries.

    python benchmarks/search.py [--count 1000000] [--ways ivf_pq flat ...] [--out benchmarks/results/search.json]

The descriptors imitate views of landmarks described by glam-lite0, see `World`. Queries are further views, searched one
at a time. Each method runs in its own process. Libraries that are not installed are skipped and listed; install them
with pip install '.[bench]'.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from glam.index.ann import KINDS, DescriptorSource, build_structure, read_structure
from glam.index.ann.inner_products import inner_products_at
from glam.index.types import Descriptors, Mask

DIM = 512
QUERIES = 500
ADDED = 1_000
BLOCK = 65_536
SHARE = 0.01
"""Fraction of the rows that the filter matches."""

Find = Callable[[Descriptors], NDArray[np.int64]]
"""Function that returns the rows of the ten nearest neighbors of one query, (1, dim)."""


class World:
    """A generator of descriptors: random Fourier features (512 cosines) of points in a 16-dimensional space.

    A point represents a landmark and a viewpoint; close points look similar. The widths were chosen so that the scores,
    the number of dimensions, and the local number of dimensions match those of images described by glam-lite0;
    `docs/search.md` compares them.
    """

    LATENT, SPREAD, VIEW = 16, 0.45, 0.25

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._waves = rng.standard_normal((self.LATENT, DIM), dtype=np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, DIM).astype(np.float32)

    def show(self, points: Descriptors) -> Descriptors:
        """Converts points, (n, 16), to descriptors, (n, 512), float32, of unit length."""
        descriptors = np.cos(points @ self._waves + self._phases)
        return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)

    def make(self, folder: Path, count: int) -> None:
        """Writes rows.npy, whose last `ADDED` rows are for adding, and queries.npy.

        The number of views per landmark follows a power law (2 to 3,000). Eight landmarks share a site and look
        somewhat similar. A quarter of the rows are distractors, points of no landmark. Landmarks with more views get
        more queries.

        Args:
            folder: existing folder to write to.
            count: number of rows without those for adding.
        """
        rng = np.random.default_rng(1)
        total = count + ADDED
        sizes = np.minimum(np.ceil(2 * (rng.pareto(1.1, total) + 1)).astype(int), 3_000)
        landmark_ids = np.repeat(np.arange(total), sizes)[: total - total // 4]
        landmark_ids = rng.permutation(np.concatenate([landmark_ids, np.full(total // 4, -1)]))
        landmarks = int(landmark_ids.max()) + 1
        sites = self._points(rng, landmarks // 8 + 1, self.SPREAD)
        means = np.sqrt(0.7, dtype=np.float32) * sites[rng.integers(len(sites), size=landmarks)]
        means += self._points(rng, landmarks, self.SPREAD * 0.3**0.5)
        variety = rng.uniform(0.5, 1.3, size=(landmarks, 1)).astype(np.float32)

        def views(some: NDArray[np.int64]) -> Descriptors:
            points = self._points(rng, len(some), self.SPREAD)
            known = some >= 0
            points[known] = means[some[known]] + variety[some[known]] * self._points(rng, known.sum(), self.VIEW)
            return self.show(points)

        descriptors = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.dtype(np.float32), (total, DIM))
        for start in range(0, total, BLOCK):
            descriptors[start : start + BLOCK] = views(landmark_ids[start : start + BLOCK])
        np.save(folder / "queries.npy", views(rng.choice(landmark_ids[landmark_ids >= 0], size=QUERIES)))

    def _points(self, rng: np.random.Generator, n: int, width: float) -> Descriptors:
        return rng.standard_normal((n, self.LATENT), dtype=np.float32) * np.float32(width)


class MappedDescriptors(DescriptorSource):
    """The first descriptors of a memory-mapped file, with the interface of the descriptors of an index.

    Args:
        descriptors: memory-mapped descriptors, (n, dim).
        count: number of descriptors to use.
    """

    dim = DIM

    def __init__(self, descriptors: Descriptors, count: int) -> None:
        self._descriptors, self._count = descriptors, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Descriptors:
        return self._descriptors[: self._count][rows]

    def inner_products(self, query: Descriptors, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return inner_products_at(query, self._descriptors, rows)


def measure_ours(
    kind: str, descriptors: Descriptors, queries: Descriptors, truth: dict[str, NDArray[np.int64]], allowed: Mask
) -> dict[str, Any]:
    """Measures a search structure of this package: build, open, search, filter, and add."""
    count = len(descriptors) - ADDED
    before, began = own_memory(), time.perf_counter()
    structure = build_structure(MappedDescriptors(descriptors, count), kind)
    result = {"build_seconds": since(began)}
    file = Path(tempfile.gettempdir()) / f"structure-{os.getpid()}"
    structure.write(file)
    result["file_bytes_per_vector"] = round(file.stat().st_size / count, 1)
    del structure
    began = time.perf_counter()
    structure = read_structure(file, MappedDescriptors(descriptors, len(descriptors)))
    result["open_seconds"] = since(began)
    plain = timed(lambda query: structure.search(query, 10)[1], queries, truth["plain"])
    filtered = timed(lambda query: structure.search(query, 10, allowed)[1], queries, truth["filtered"])
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    alone = read_structure(file, MappedDescriptors(descriptors, count))
    result["one_thread"] = timed(lambda query: alone.search(query, 10)[1], queries, truth["plain"])
    faiss.omp_set_num_threads(threads)
    file.unlink()
    began = time.perf_counter()
    structure.add(descriptors[count:])
    result["add_1000_seconds"] = since(began)
    result |= {"bytes_per_vector": round(structure.memory_bytes / count, 1)}
    result |= {"process_bytes_per_vector": round((own_memory() - before) / count, 1)}
    tuning = getattr(structure, "tuning", None)
    slower = round(filtered["p50_ms"] / plain["p50_ms"], 2)
    return {**result, **plain, "filtered": filtered | {"times_unfiltered": slower}} | (
        {"tuning": tuning.to_dict()} if tuning else {}
    )


def hnswlib_index(descriptors: Descriptors) -> Find:
    import hnswlib

    index = hnswlib.Index("ip", DIM)
    index.init_index(len(descriptors), M=16, ef_construction=100)
    index.add_items(descriptors)
    index.set_ef(128)
    return lambda query: index.knn_query(query, 10, num_threads=1)[0].astype(np.int64)


def usearch_index(descriptors: Descriptors) -> Find:
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="i8", connectivity=16, expansion_add=100, expansion_search=128)
    index.add(np.arange(len(descriptors)), descriptors)
    return lambda query: index.search(query[0], 10, threads=1).keys.astype(np.int64)[None]


def milvus_index(descriptors: Descriptors) -> Find:
    from pymilvus import MilvusClient

    file = str(Path(tempfile.mkdtemp()) / "milvus.db")
    client = MilvusClient(
        file, grpc_options={"grpc.keepalive_time_ms": 2**31 - 1}
    )  # the server disconnects clients that ping
    client.create_collection("rows", dimension=DIM, metric_type="IP")
    for start in range(0, len(descriptors), 1_000):
        block = descriptors[start : start + 1_000]
        client.insert("rows", [{"id": start + i, "vector": descriptor} for i, descriptor in enumerate(block)])
    client.flush("rows")

    def find(query: Descriptors) -> NDArray[np.int64]:
        hits = client.search("rows", data=list(query), limit=10, output_fields=["id"])[0]
        return np.array([[hit["id"] for hit in hits]])

    return find


OTHERS = {"hnswlib": hnswlib_index, "usearch": usearch_index, "milvus-lite": milvus_index}


def measure_other(
    way: str, descriptors: Descriptors, queries: Descriptors, truth: dict[str, NDArray[np.int64]]
) -> dict[str, Any]:
    """Measures another library with usual settings: M = 16, 100 neighbors to build, and 128 to search."""
    before, began = own_memory(), time.perf_counter()
    find = OTHERS[way](descriptors[: len(descriptors) - ADDED])
    built = since(began)
    memory = round((own_memory() - before) / (len(descriptors) - ADDED), 1)
    return {"build_seconds": built, "process_bytes_per_vector": memory, **timed(find, queries, truth["plain"])}


def timed(find: Find, queries: Descriptors, truth: NDArray[np.int64]) -> dict[str, float]:
    """Measures the times of single queries in milliseconds, and recall@10."""
    times, found = [], []
    for i in range(len(queries)):
        began = time.perf_counter()
        rows = find(queries[i : i + 1])
        times.append(1000 * (time.perf_counter() - began))
        found.append(np.isin(truth[i], rows).mean())
    p10, p50, p95 = np.quantile(times, [0.1, 0.5, 0.95]).round(3).tolist()
    return {"p50_ms": p50, "p10_ms": p10, "p95_ms": p95, "recall_at_10": round(float(np.mean(found)), 4)}


def exact(descriptors: Descriptors, queries: Descriptors, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Finds the ten nearest neighbors of each query among the given rows."""
    heap = faiss.ResultHeap(len(queries), 10, keep_max=True)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        scores, columns = faiss.knn(
            queries, np.ascontiguousarray(descriptors[some]), 10, metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, some[columns])
    heap.finalize()
    best: NDArray[np.int64] = heap.I
    return best


def own_memory() -> int:
    """Returns the memory of the process in bytes, without mapped files."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def measure(way: str, folder: Path) -> None:
    """Measures one method in this process, and prints the result as JSON."""
    descriptors, queries = np.load(folder / "rows.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    truth = dict(np.load(folder / "truth.npz"))
    for start in range(0, len(descriptors), BLOCK):  # loads the pages
        descriptors[start : start + BLOCK].sum()
    result = (
        measure_ours("exact" if way == "flat" else way, descriptors, queries, truth, truth["allowed"])
        if way in (*KINDS, "flat")
        else measure_other(way, descriptors, queries, truth)
    )
    print(json.dumps(result))


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Makes the rows, measures each method, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--ways", nargs="+", choices=("ivf_pq", "flat", *OTHERS), default=["ivf_pq", "flat", *OTHERS])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    ways: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        World().make(folder, options.count)
        descriptors, queries = np.load(folder / "rows.npy", mmap_mode="r"), np.load(folder / "queries.npy")
        allowed = np.random.default_rng(3).random(options.count) < SHARE
        plain = exact(descriptors, queries, np.arange(options.count))
        np.savez(
            folder / "truth.npz",
            plain=plain,
            filtered=exact(descriptors, queries, np.flatnonzero(allowed)),
            allowed=allowed,
        )
        for way in options.ways:
            if way in OTHERS and installed(way) is None:
                ways[way] = "not installed"
            else:
                done = subprocess.run(
                    [sys.executable, __file__, "--measure", way, name], stdout=subprocess.PIPE, text=True, check=False
                )
                ways[way] = (
                    json.loads(done.stdout) if done.returncode == 0 else f"failed with exit status {done.returncode}"
                )
            print(way, ways[way], flush=True)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "count": options.count,
        "dim": DIM,
        "queries": QUERIES,
        "filter_share": SHARE,
        "ways": ways,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
        },
        "versions": {name: installed(name) for name in ("faiss-cpu", "numpy", *OTHERS)},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
