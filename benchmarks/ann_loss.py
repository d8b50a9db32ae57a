r"""Loss of mAP by approximate search: inverted lists (`ivf_pq`) compared with exact search, among many distractors.

    glam index build places.glam places.csv
    python benchmarks/ann_loss.py --index places.glam --folder ../shared/landmarks/val \
        [--count 1000000] [--out benchmarks/results/ann_loss.json]

`places.csv` is a manifest of the images in `val` and `distractors` of ../shared/landmarks.

Each image of the folder is a query against all others. The distractors are generated, because a million real ones are
not available: each is a random image of the index from outside the folder, plus Gaussian noise of `NOISE` times the
standard deviation of these images along each of their principal axes, normalized to unit length. So they vary like real
descriptors, but they are variations of few images.

Result lists are cut at several depths, and a positive beyond the depth counts as not found. Exact search is cut at the
same depth, so the loss is that of the search structure alone.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.datasets.readers import read_collection
from glam.eval.folder import folder_scores
from glam.eval.metrics import Ranks
from glam.eval.ranks import count_above
from glam.eval.report import versions
from glam.eval.result_lists import NOT_FOUND, score_folder_lists
from glam.eval.search_evaluation import find_images
from glam.eval.searcher import IndexSearcher
from glam.eval.tie_break import tie_break_keys
from glam.index import Index
from glam.index.ann import DescriptorSource, build_structure
from glam.index.types import Descriptors, Rows
from glam.output import write_json

DEPTHS = (10, 50, 200, 1_000, 5_000)
NOISE = 1.0
BLOCK = 65_536
"""Number of distractors generated at a time; arbitrary."""


class ArrayDescriptors(DescriptorSource):
    """Descriptors in memory.

    Args:
        array: descriptors, (n, dim), float32.
    """

    def __init__(self, array: Descriptors) -> None:
        self.array = array
        self.dim = array.shape[1]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        return self.array[rows]


def generate_distractors(others: Descriptors, database: Descriptors) -> None:
    """Fills an array with generated distractors, see the top of this file.

    Args:
        others: real descriptors to vary, (m, dim), float32.
        database: array to fill, (n, dim), float32.
    """
    rng = np.random.default_rng(0)
    _, spread, directions = np.linalg.svd(others - others.mean(axis=0), full_matrices=False)
    noise = (NOISE / np.sqrt(len(others)) * spread[:, None] * directions).astype(np.float32)
    for start in range(0, len(database), BLOCK):
        block = database[start : start + BLOCK]
        block[:] = others[rng.integers(len(others), size=len(block))]
        block += rng.standard_normal((len(block), len(noise)), dtype=np.float32) @ noise
        block /= np.linalg.norm(block, axis=1, keepdims=True)


def exact_ranks(database: Descriptors, landmark_ids: NDArray[np.int64]) -> list[Ranks]:
    """Returns the ascending ranks of the positives of each query among all images except itself, (p,) each."""
    count = len(landmark_ids)
    rows = [np.flatnonzero((landmark_ids == landmark_ids[query]) & (landmark_ids >= 0)) for query in range(count)]
    rows = [np.append(some[some != query], query) for query, some in enumerate(rows)]
    keys = [tie_break_keys(database[query], database[some], some) for query, some in enumerate(rows)]
    above = count_above(database[:count], keys, [database])
    return [np.sort(some[:-1] - (some[-1] < some[:-1])) for some in above]


def main() -> None:
    """Measures the loss, prints it, and writes the result."""
    parser = argparse.ArgumentParser(description="Measure the mAP lost to approximate search.")
    parser.add_argument("--folder", required=True, type=Path, help="folder with one sub-folder per landmark")
    parser.add_argument("--index", required=True, type=Path, help="index of the folder and of other images")
    parser.add_argument("--count", type=int, default=100_000, help="number of generated distractors")
    parser.add_argument("--out", type=Path, help="result file")
    arguments = parser.parse_args()

    collection = read_collection(arguments.folder)
    with Index.open(arguments.index) as index:
        image_ids = find_images(IndexSearcher(index), [collection.file(i) for i in range(len(collection))])
        real = index.descriptors(image_ids)
        others = index.descriptors(np.setdiff1d(index.image_ids, image_ids).tolist())
        model = {"name": index.model_name, "fingerprint": index.fingerprint, "dim": index.dim}
    landmark_ids = collection.landmark_ids
    database = np.empty((len(real) + arguments.count, real.shape[1]), dtype=np.float32)
    database[: len(real)] = real
    generate_distractors(others, database[len(real) :])
    ranks = exact_ranks(database, landmark_ids)
    begin = time.perf_counter()
    structure = build_structure(ArrayDescriptors(database), "ivf_pq")
    built = time.perf_counter()
    exact = folder_scores(ranks, landmark_ids).mean_ap
    depths: dict[str, Any] = {}
    for depth in (depth for depth in DEPTHS if depth < len(database)):
        start = time.perf_counter()
        _, found = structure.search(real, depth + 1)
        seconds = time.perf_counter() - start
        found = np.where(found < len(real), found, -1)
        lists = [some[some != query][:depth] for query, some in enumerate(found)]
        cut = folder_scores([np.where(some < depth, some, NOT_FOUND) for some in ranks], landmark_ids).mean_ap
        searched = score_folder_lists(lists, landmark_ids).mean_ap
        depths[str(depth)] = {
            "exact_map": cut,
            "searched_map": searched,
            "loss": cut - searched,
            "ms_per_query": 1000 * seconds / len(real),
        }
        print(f"depth {depth}: exact {100 * cut:.2f}, searched {100 * searched:.2f}, loss {100 * (cut - searched):.3f}")
    print(f"{len(real)} queries, {arguments.count} distractors: exact mAP {100 * exact:.2f} at full depth")
    if arguments.out is not None:
        write_json(
            arguments.out,
            {
                "queries": len(real),
                "distractors": arguments.count,
                "made_of": len(others),
                "structure": structure.kind,
                "model": model,
                "exact_map": exact,
                "depths": depths,
                "build_seconds": built - begin,
                "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
                "versions": versions(),
            },
        )


if __name__ == "__main__":
    main()
