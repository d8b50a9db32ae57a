"""Size of the precomputed data that re-ranking uses, and the time to keep it up to date.

    .venv/bin/python benchmarks/precompute.py ../shared/landmarks/val --out benchmarks/results/precompute.json

The kNN graph is measured on generated descriptors (`World` in search.py). Local features are measured on images with
random descriptors, because their content does not matter here. Seconds are processor time, summed over threads.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from search import DIM, World

from glam.datasets.collection import ImageFile
from glam.datasets.readers import read_folder
from glam.index import Index, precompute
from glam.index.operations.image_files import read_facts
from glam.index.rerank.base import NEIGHBORS
from glam.index.rerank_store.files import KINDS
from glam.index.storage.records import FileFacts, IndexConfig
from glam.index.types import Descriptors
from glam.index.writer import ImageToAdd, open_writer

BLOCK = 10_000
LOOKED_AT = 400


def seconds(work: Callable[[], object]) -> float:
    """Returns the processor time that a function takes, in seconds."""
    began = time.process_time()
    work()
    return round(time.process_time() - began, 4)


def config(root: Path) -> IndexConfig:
    return IndexConfig("made up", "0" * 16, DIM, 320, (1.0,), str(root.resolve()))


def add(index: Path, begin: int, descriptors: Descriptors) -> None:
    """Adds generated images in one run of a writer."""
    with open_writer(index, begin=config(index)) as writer:
        for start in range(0, len(descriptors), BLOCK):
            block = enumerate(descriptors[start : start + BLOCK], begin + start)
            writer.add(
                [
                    ImageToAdd(FileFacts(f"{i}.jpg", "", "{}", "", -1, 0), 320, 240, np.array(descriptor))
                    for i, descriptor in block
                ]
            )


def remove(index: Path, count: int) -> None:
    with open_writer(index) as writer:
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.remove(range(count))


def graph(folder: Path, vectors: int) -> dict[str, Any]:
    """Measures the kNN graph of ``vectors`` images."""
    World().make(folder, vectors)
    descriptors = np.load(folder / "rows.npy", mmap_mode="r")
    index = folder / "i.glam"
    add(index, 0, descriptors[:vectors])
    without = seconds(lambda: add(index, vectors, descriptors[vectors : vectors + 1]))
    made = seconds(lambda: precompute(index, knn_graph=True))
    figures: dict[str, Any] = {
        "images": vectors + 1,
        "neighbors": NEIGHBORS,
        "seconds_to_make": made,
        "bytes_an_image": precompute(index).bytes / (vectors + 1),
        "seconds_to_add_one_without": without,
        "seconds_to_add_one": seconds(lambda: add(index, vectors + 1, descriptors[vectors + 1 : vectors + 2])),
        "seconds_to_add_100": seconds(lambda: add(index, vectors + 2, descriptors[vectors + 2 : vectors + 102])),
        "seconds_to_remove_100": seconds(lambda: remove(index, 100)),
    }
    with Index.open(index) as opened:
        looked_at = np.random.default_rng(0).integers(len(opened), size=LOOKED_AT)
        figures["ms_first_look"] = 1000 * seconds(lambda: opened.neighbors(looked_at))
        figures[f"ms_to_look_at_{LOOKED_AT}"] = 1000 * seconds(lambda: opened.neighbors(looked_at))
    return figures


def features(folder: Path, source: Path) -> dict[str, Any]:
    """Measures the local features of the images in a folder."""
    index, root = folder / "f.glam", source.resolve()
    draws = np.random.default_rng(0)
    with open_writer(index, begin=config(root)) as writer:
        facts = [read_facts(root, ImageFile(image.path)) for image in read_folder(root).images]
        descriptors = draws.standard_normal((len(facts), DIM), dtype=np.float32)
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        writer.add(
            [ImageToAdd(f, 1, 1, descriptor) for f, descriptor in zip(facts, descriptors, strict=True) if f is not None]
        )
    made = seconds(lambda: precompute(index, local_features=True))
    report = precompute(index)
    with Index.open(index) as opened:
        opened.local_features_in_row(0)
        read = seconds(lambda: [opened.local_features_in_row(i) for i in range(len(opened))])
    return {
        "images": report.images,
        "bytes_an_image": report.bytes / report.local_features,
        "ms_to_make_one": 1000 * made / report.local_features,
        "ms_to_read_one": 1000 * read / report.images,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--vectors", type=int, default=100_000, help="number of images in the kNN graph")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = {
            "machine": platform.processor() or platform.machine(),
            "kinds": KINDS,
            "features": features(Path(name), options.folder),
            "graph": graph(Path(name), options.vectors),
        }
    text = json.dumps(figures, indent=2) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
