"""How long a query takes by the clock, with and without reranking, over an index that keeps local features.

    python benchmarks/rerank_wall.py ../shared/landmarks    # on a quiet machine; benchmarks/results/rerank_wall.csv
    OMP_NUM_THREADS=1 python benchmarks/rerank_wall.py ../shared/landmarks --out benchmarks/results/rerank_wall_one.csv

`threads` are those of a single matrix product or network. Set to one, they do not compete for the cores with the two
threads in which `geometric` compares images.

The index holds val/ and distractors/ as a user would build it. A query is an image of val/: its file is described,
searched for, and reranked, which finds its own local features. Chains take turns query by query, so that what else the
machine does meets all of them. The `rerank.py` beside this one gives processor time, and what the chains gain.
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
    """To describe an image, and to find its ten best from there on."""
    began = time.perf_counter()
    descriptor = model.describe([file], size=index.size, scales=index.scales)[0]
    described = time.perf_counter()
    index.search(Query(descriptor, lambda: extract(read_image(file))), rerank=text or None)
    return described - began, time.perf_counter() - described


def rows(index: Index, model: glam.Model, files: list[Path]) -> list[dict[str, Any]]:
    """A row for plain search, and for each chain."""
    texts = ("", *CHAINS)
    for text in texts:
        seconds(model, index, files[0], text)  # opens what is opened once
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
