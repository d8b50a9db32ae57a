"""Wall-clock time of a query, with and without re-ranking, on an index with precomputed local features.

    python benchmarks/rerank_wall.py ../shared/landmarks    # on an idle machine; benchmarks/results/rerank_wall.csv
    OMP_NUM_THREADS=1 python benchmarks/rerank_wall.py ../shared/landmarks --out benchmarks/results/rerank_wall_one.csv

`threads` is the number of threads of a single matrix product or network. With one, these threads do not compete for the
cores with the two threads in which `geometric` compares images.

The index contains val/ and distractors/. Each query is an image of val/: its file is described, searched for, and
re-ranked, which includes the extraction of its local features. Chains alternate query by query, so that other load
affects all of them equally. `rerank.py` measures processor time and gains.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rerank import RESULTS, write_rows

import glam
from glam.datasets.readers import read_folder
from glam.images import read_image
from glam.index import Index, build, precompute
from glam.index.local_matching import extract
from glam.index.rerank.base import Query

CHAINS = ("superglobal", "geometric", "superglobal,geometric")
QUERIES = 60


def seconds(model: glam.Model, index: Index, file: Path, text: str) -> tuple[float, float]:
    """Returns the seconds to describe an image, and the seconds to find its ten best results."""
    began = time.perf_counter()
    descriptor = model.describe([file], size=index.size, scales=index.scales)[0]
    described = time.perf_counter()
    index.search(Query(descriptor, lambda: extract(read_image(file))), rerank=text or None)
    return described - began, time.perf_counter() - described


def rows(index: Index, model: glam.Model, files: list[Path]) -> list[dict[str, Any]]:
    """Returns a row for plain search, and for each chain."""
    texts = ("", *CHAINS)
    for text in texts:
        seconds(model, index, files[0], text)  # warm-up: opens the files of the index
    times = 1000 * np.array([[seconds(model, index, file, text) for text in texts] for file in files])
    return [
        {
            "chain": text or "plain",
            "images": len(index),
            "queries": len(files),
            "cores": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
            "ms_describe": round(float(np.median(times[:, i, 0])), 1),
            "ms": round(float(np.median(times[:, i, 1])), 1),
            "ms_90th": round(float(np.quantile(times[:, i, 1], 0.9)), 1),
        }
        for i, text in enumerate(texts)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("landmarks", type=Path)
    parser.add_argument("--model", default="glam-lite0")
    parser.add_argument("--out", type=Path, default=RESULTS / "rerank_wall.csv")
    options = parser.parse_args()
    model = glam.load(options.model)
    all_images = read_folder(options.landmarks)
    collection = all_images.filter(lambda image: image.path.startswith(("val/", "distractors/")))
    query_files = [collection.file(i) for i, image in enumerate(collection.images) if image.path.startswith("val/")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photographs.glam"
        build(path, collection, model)
        precompute(path, local_features=True)
        with Index.open(path) as index:
            chosen = np.linspace(0, len(query_files) - 1, QUERIES).astype(int)
            write_rows(options.out, iter(rows(index, model, [query_files[i] for i in chosen])))


if __name__ == "__main__":
    main()
