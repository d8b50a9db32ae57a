"""Exact and IVF-PQ search by faiss-gpu, compared with the exact search of `glam.index` on the same GPU.

    pip uninstall faiss-cpu && pip install faiss-gpu-cuvs
    python benchmarks/faiss_gpu.py --rows 1000000 4000000 --out benchmarks/results/faiss_gpu.json

Times are medians for 1, 32, and 1,024 queries, from descriptors to ten results on the host. Recall@10 is relative to
the exact search of `glam.index`. IVF-PQ probes the fewest lists that reach a recall of `TARGET` for rows of the index;
its 50 best candidates per query are scored exactly.
"""

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from search_gpu import BATCH, K, _Rows, landmark_descriptors, median_ms

from glam.index.ann.exact_gpu import ExactGpu
from glam.index.types import Descriptors, Rows

DIM = 512
CODES = 64
"""Bytes per descriptor."""

LISTS = 4
"""Number of lists, as a multiple of the square root of the number of descriptors."""

SAMPLE_PER_LIST = 100
CANDIDATES = 50
PROBES = (16, 32, 64, 128, 256, 512, 1024)
TARGET = 0.993
COUNTS = (1, 32, 1024)


def times(search: Any, queries: Descriptors) -> dict[int, float]:
    """Returns the median milliseconds of ``search(queries)`` by number of queries."""
    return {count: median_ms(lambda _, some=queries[:count]: search(some), 50) for count in COUNTS}


def recall(found: Rows, wanted: Rows) -> float:
    """Returns the fraction of the true neighbors that were found.

    Args:
        found: rows found, (q, K).
        wanted: true nearest rows, (q, K).
    """
    hits = [len(set(some) & set(row)) for some, row in zip(found.tolist(), wanted.tolist(), strict=True)]
    return round(sum(hits) / wanted.size, 4)


def measure(count: int, resources: Any) -> dict[str, Any]:
    """Measures the three searches.

    Args:
        count: number of generated descriptors.
        resources: GPU resources of faiss.
    """
    starts = range(0, count, BATCH)
    descriptors = np.concatenate(
        [landmark_descriptors(start, min(BATCH, count - start), DIM, "cuda") for start in starts]
    )
    rng = np.random.default_rng(1)
    queries = descriptors[rng.choice(count, 1_024)]
    queries = queries + 0.5 / DIM**0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    ours = ExactGpu.build(_Rows(descriptors), torch.device("cuda"))
    wanted = ours.search(queries, K)[1]
    own = descriptors[np.sort(rng.choice(count, 400, replace=False))]
    own_wanted = ours.search(own, K)[1]
    result: dict[str, Any] = {"rows": count, "dim": DIM, "glam_exact_ms": times(partial(ours.search, k=K), queries)}
    del ours
    torch.cuda.empty_cache()

    flat = faiss.GpuIndexFlatIP(resources, DIM)
    flat.add(descriptors)
    result["faiss_exact_ms"] = times(partial(flat.search, k=K), queries)
    del flat

    began = time.perf_counter()
    lists = LISTS * math.isqrt(count)
    config = faiss.GpuIndexIVFPQConfig()
    config.use_cuvs = False
    config.useFloat16LookupTables = True
    ivf = faiss.GpuIndexIVFPQ(resources, DIM, lists, CODES, 8, faiss.METRIC_INNER_PRODUCT, config)
    ivf.train(descriptors[np.sort(rng.choice(count, min(SAMPLE_PER_LIST * lists, count), replace=False))])
    for start in starts:
        ivf.add(descriptors[start : start + BATCH])

    def search(some: Descriptors, probes: int) -> Rows:
        candidates = ivf.search(some, CANDIDATES, params=faiss.SearchParametersIVF(nprobe=probes))[1]
        scores = np.einsum("qcd,qd->qc", descriptors[candidates], some)
        scores[candidates < 0] = -np.inf
        return np.take_along_axis(candidates, np.argsort(-scores, axis=1)[:, :K], axis=1)

    chosen = next((probes for probes in PROBES if recall(search(own, probes), own_wanted) >= TARGET), PROBES[-1])
    result |= {
        "faiss_ivf_pq_build_seconds": round(time.perf_counter() - began, 1),
        "faiss_ivf_pq_probes": chosen,
        "faiss_ivf_pq_recall_at_10": recall(search(queries, chosen), wanted),
        "faiss_ivf_pq_ms": times(partial(search, probes=chosen), queries),
    }
    return result


def main() -> None:
    """Parses the command line, measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    resources = faiss.StandardGpuResources()
    results = {
        "device": torch.cuda.get_device_name(),
        "faiss": faiss.__version__,
        "indexes": [measure(count, resources) for count in options.rows],
    }
    text = json.dumps(results, indent=2) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
