"""Gain and cost of re-ranking.

    OMP_NUM_THREADS=1 python benchmarks/rerank.py quality ../shared/landmarks ../shared/roxford_mini
    OMP_NUM_THREADS=1 python benchmarks/rerank.py sweep ../shared/landmarks
    OMP_NUM_THREADS=1 python benchmarks/rerank.py cost

`quality` writes benchmarks/results/rerank.csv: mAP on val/ with distractors/, where each image is a query against all
others, and mAP on the benchmark. Two columns determined the defaults: the gain on val/, and the gain on val/ with four
images per landmark (the mean of three samples), because most folders have few images per landmark. `sweep` writes these
two for many options to benchmarks/results/rerank_sweep.csv, and never opens the benchmark. `cost` writes
benchmarks/results/rerank_cost.csv: the same steps on 100,000 generated vectors, searched by inverted lists.

Times are processor time of all threads, so that a busy machine can be used; on an idle one a query takes no longer.
"""

import argparse
import csv
import itertools
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import glam
from glam.datasets.readers import read_folder
from glam.eval.benchmark import Benchmark, open_benchmark
from glam.eval.folder import score_folder
from glam.eval.metrics import bootstrap_interval
from glam.eval.rerank import local_features_of, rerank_all
from glam.eval.revisitop import PROTOCOLS, score_revisited
from glam.images import read_image
from glam.index.ann import build_structure
from glam.index.local_matching import LocalFeatures, Matches, extract, match_features
from glam.index.rerank.base import NEIGHBORS, Query
from glam.index.rerank.chain import Chain, parse_chain
from glam.index.rerank.memory_database import MemoryDatabase
from glam.index.rerank.steps import geometric
from glam.index.types import Descriptors, Mask, Rows, Scores

RESULTS = Path("benchmarks/results")

CHAINS = (
    "aqe",
    "dba",
    "diffusion",
    "reciprocal",
    "superglobal",
    "geometric",
    "aqe,superglobal",
    "superglobal,dba",
    "geometric,superglobal",
    "superglobal,geometric",
)
TRIED = (
    "aqe:k=1/2/3/5/10:alpha=0/1/3",
    "dba:k=2/3/4/5/10:alpha=0/1/3",
    "diffusion:k=5/10:seeds=1/3/5:gamma=1/3:alpha=0.8/0.9",
    "diffusion:k=3/7/16/20:seeds=3:gamma=3:alpha=0.8",
    "reciprocal:k=6/10/16:averaged=2:share=0.3/0.5",
    "reciprocal:k=4/10:averaged=0/3:share=0.5",
    "superglobal:k=3/4/5/9:first=2/3/5:weight=0.5/1",
    "aqe:k=2,superglobal",
    "superglobal:k=3,superglobal:k=3",
    "superglobal,dba:k=3",
    "superglobal,reciprocal:k=16",
    "geometric:least=5/6/8/10/15",
)
"""Options to sweep; slashes separate values, and all combinations are tried."""

WITH_GRAPH = ("dba", "diffusion", "reciprocal")
GRAPH_BYTES = NEIGHBORS * 8
"""Bytes per image in an index: row and score of each neighbor."""

HEAD_BYTES, FEATURE_BYTES = 12, 140
"""Bytes of local features in an index, per image and per feature."""

FEW, DRAWS = 4, 3
"""Number of images per landmark in a sample, and number of samples."""

TIMED, SHOWN = 30, 100
"""Number of timed queries, and of results per query."""


class Landmarks:
    """Descriptors of val/ and distractors/.

    Args:
        folder: folder with val/ and distractors/.
        describe: function that computes descriptors, see `cached_descriptions`.
    """

    def __init__(self, folder: Path, describe: Callable[[str, Sequence[Path]], Descriptors]) -> None:
        parts = [read_folder(folder / name) for name in ("val", "distractors")]
        self.files = [part.file(i) for part in parts for i in range(len(part))]
        self.descriptors = describe("landmarks", self.files)
        self.landmark_ids = parts[0].landmark_ids
        self.features = local_features_of(self.files)

    def draw(self, seed: int) -> NDArray[np.int64]:
        """Samples `FEW` images of each landmark, and all distractors; returns their indices."""
        generator = np.random.default_rng(seed)
        some = [
            generator.permutation(np.flatnonzero(self.landmark_ids == landmark_id))[:FEW]
            for landmark_id in np.unique(self.landmark_ids)
        ]
        return np.concatenate([np.sort(np.concatenate(some)), np.arange(len(self.landmark_ids), len(self.files))])

    def ap(self, images: NDArray[np.int64], chain: Chain | None) -> NDArray[np.float64]:
        """Computes the AP of each query among a subset of the images, given by their indices."""
        count = int((images < len(self.landmark_ids)).sum())
        descriptors, lists = self.descriptors[images], None
        if chain is not None:
            features = [partial(self.features, int(image)) for image in images]
            database = MemoryDatabase([descriptors], lambda row: features[row]())
            queries = [Query(descriptors[q], features[q]) for q in range(count)]
            lists = rerank_all(chain, queries, database.without)
        return score_folder(descriptors[:count], self.landmark_ids[images[:count]], descriptors[count:], lists).ap

    def milliseconds(self, chain: Chain | None) -> float:
        """Returns the median processor time of a query, with plain search and extraction of local features."""
        database = MemoryDatabase([self.descriptors], self.features)
        database.neighbors(np.arange(len(self.descriptors)))
        times = []
        for q in np.linspace(0, len(self.landmark_ids) - 1, TIMED).astype(int):
            query = Query(self.descriptors[q], lambda file=self.files[q]: extract(read_image(file)))  # type: ignore[misc]
            asked = database.without(int(q))
            began = time.process_time()
            if chain is None:
                asked.nearest(query.descriptor[None], SHOWN)
            else:
                chain.search(query, asked, SHOWN)
            times.append(time.process_time() - began)
        return 1000 * float(np.median(times))


class Oxford:
    """Descriptors of the benchmark.

    Args:
        folder: folder of the benchmark.
        describe: function that computes descriptors, see `cached_descriptions`.
    """

    def __init__(self, folder: Path, describe: Callable[[str, Sequence[Path]], Descriptors]) -> None:
        self.set: Benchmark = open_benchmark("roxford5k", folder)
        self.queries = describe("queries", self.set.queries)
        self.descriptors = describe("images", self.set.images)
        self.query_features, self.features = local_features_of(self.set.queries), local_features_of(self.set.images)

    def scores(self, chain: Chain | None) -> dict[str, float | str]:
        """Computes mAP in percent by protocol, and the interval of the medium protocol."""
        lists: list[Rows] | None = None
        if chain is not None:
            database = MemoryDatabase([self.descriptors], self.features)
            queries = [Query(descriptor, partial(self.query_features, q)) for q, descriptor in enumerate(self.queries)]
            lists = rerank_all(chain, queries, lambda _: database)
        scores = score_revisited(self.set.truth, self.queries, self.descriptors, lists=lists)
        maps = {f"roxford_mini_{name}": percent(scores[name].mean_ap) for name in PROTOCOLS}
        return {**maps, "medium_low_high": between(scores["medium"].interval)}


def percent(share: float) -> float:
    """Converts a fraction to percent with two decimals."""
    return round(100 * float(share), 2)


def between(ends: tuple[float, float]) -> str:
    """Formats an interval in percent."""
    return " - ".join(f"{100 * end:.1f}" for end in ends)


def cached_descriptions(model_name: str, cache: Path | None) -> Callable[[str, Sequence[Path]], Descriptors]:
    """Returns a function that computes descriptors at 320 pixels, or reads them from the cache folder."""
    loaded: list[glam.Model] = []

    def describe(name: str, files: Sequence[Path]) -> Descriptors:
        file = None if cache is None else cache / f"{name}.npy"
        if file is not None and file.exists():
            descriptors: Descriptors = np.load(file)
            return descriptors
        loaded[:] = loaded or [glam.load(model_name)]
        descriptors = loaded[0].describe(files, size=320, scales=(1,))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, descriptors)
        return descriptors

    return describe


def cached_matches() -> Callable[[LocalFeatures, LocalFeatures], Matches]:
    """Returns a function that matches each pair of images only once for all chains."""
    known: dict[tuple[int, int], Matches] = {}

    def compared(a: LocalFeatures, b: LocalFeatures) -> Matches:
        if (id(a), id(b)) not in known:
            known[id(a), id(b)] = match_features(a, b)
        return known[id(a), id(b)]

    return compared


def quality_rows(landmarks: Landmarks, oxford: Oxford, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields a row of the table for plain search, and for each chain."""
    everything, draws = np.arange(len(landmarks.files)), [landmarks.draw(seed) for seed in range(DRAWS)]
    groups = [landmarks.landmark_ids == landmark_id for landmark_id in np.unique(landmarks.landmark_ids)]
    plain, plain_few = landmarks.ap(everything, None), [landmarks.ap(draw, None) for draw in draws]
    compare_once = cached_matches()
    for text in ("", *texts):
        chain = parse_chain(text) if text else None
        with patch.object(geometric, "match_features", compare_once):
            ap = landmarks.ap(everything, chain)
            few = [np.nanmean(landmarks.ap(draw, chain)) for draw in draws]
            on_oxford = oxford.scores(chain)
        kept: float = GRAPH_BYTES * any(step in text for step in WITH_GRAPH)
        if "geometric" in text:
            kept += float(np.mean([HEAD_BYTES + FEATURE_BYTES * len(landmarks.features(int(i))) for i in everything]))
        yield {
            "chain": text or "plain",
            "map": percent(ap.mean()),
            "low_high": between(bootstrap_interval([ap[group] for group in groups])),
            "gain": percent((ap - plain).mean()),
            "gain_low_high": between(bootstrap_interval([(ap - plain)[group] for group in groups])),
            "gain_of_four": percent(float(np.mean(few) - np.mean([np.nanmean(ap) for ap in plain_few]))),
            **on_oxford,
            "ms": round(landmarks.milliseconds(chain), 1),
            "bytes_an_image": round(kept),
            "options": str(chain) if chain else "",
        }


def sweep_rows(landmarks: Landmarks, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the gain of each combination of options, on val/ only."""
    sets = [np.arange(len(landmarks.files)), *(landmarks.draw(seed) for seed in range(DRAWS))]
    plain = [float(np.nanmean(landmarks.ap(images, None))) for images in sets]
    with patch.object(geometric, "match_features", cached_matches()):
        for text in (text for pattern in texts for text in combinations(pattern)):
            chain = parse_chain(text)
            gains = [
                float(np.nanmean(landmarks.ap(images, chain))) - was for images, was in zip(sets, plain, strict=True)
            ]
            yield {"chain": text, "gain": percent(gains[0]), "gain_of_four": percent(float(np.mean(gains[1:])))}


def combinations(pattern: str) -> Iterator[str]:
    """Expands ``aqe:k=1/2`` to ``aqe:k=1`` and ``aqe:k=2``."""
    for values in itertools.product(*(part.split("/") for part in re.split("(?<==)|(?=:)", pattern))):
        yield "".join(values)


class StructureDatabase(MemoryDatabase):
    """A database in memory that is searched by the search structure of an index.

    Args:
        descriptors: descriptors, (n, dim).
    """

    def __init__(self, descriptors: Descriptors) -> None:
        super().__init__([descriptors])
        self.structure = build_structure(self.matrix)

    def _brute_force(self, queries: Descriptors, k: int, allowed: Mask | None) -> tuple[Scores, Rows]:
        return self.structure.search(queries, k, allowed)


def cost_rows(count: int, dim: int) -> Iterator[dict[str, Any]]:
    """Yields time and memory of a query, with its search; without geometric verification, which needs images."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(count // 20, dim)).astype(np.float32)
    descriptors = np.repeat(centers, 20, axis=0) + generator.normal(size=(count, dim)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    database = StructureDatabase(descriptors)
    kind = database.structure.kind
    for text in ("", "aqe", "dba", "diffusion", "reciprocal", "superglobal"):
        for results in (10, 400):
            if text:
                ask = partial(_reranked, database, parse_chain(text), results)
            else:
                ask = partial(_plain, database, results)
            yield {"chain": text or "plain", "results": results, "structure": kind, **measured(ask)}


def _plain(database: StructureDatabase, results: int, query: int) -> None:
    database.nearest(database.matrix[query : query + 1], results)


def _reranked(database: StructureDatabase, chain: Chain, results: int, query: int) -> None:
    chain.search(Query(database.matrix[query : query + 1][0]), database, results)


def measured(ask: Callable[[int], object]) -> dict[str, float]:
    """Measures the median time of a query in milliseconds with warm caches, and the peak of its memory in MiB."""
    times = []
    for query in range(TIMED):
        ask(query)  # computes the neighbors, which an index precomputes
        began = time.process_time()
        ask(query)
        times.append(time.process_time() - began)
    tracemalloc.start()
    ask(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"ms": round(1000 * float(np.median(times)), 2), "peak_mib": round(peak / 2**20, 1)}


def write_rows(out: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Writes and prints a table row by row."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for row in rows:
            writer = writer or csv.DictWriter(file, list(row), lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    quality, sweep = commands.add_parser("quality"), commands.add_parser("sweep")
    for command, chains, out in ((quality, CHAINS, "rerank.csv"), (sweep, TRIED, "rerank_sweep.csv")):
        command.add_argument("landmarks", type=Path)
        command.add_argument("--model", default="glam-lite0")
        command.add_argument("--chains", nargs="+", default=chains)
        command.add_argument("--cache", type=Path, help="folder to cache descriptors in")
        command.add_argument("--out", type=Path, default=RESULTS / out)
    quality.add_argument("roxford", type=Path)
    cost = commands.add_parser("cost")
    cost.add_argument("--rows", type=int, default=100_000)
    cost.add_argument("--dim", type=int, default=512)
    cost.add_argument("--out", type=Path, default=RESULTS / "rerank_cost.csv")
    options = parser.parse_args()
    if options.command == "cost":
        write_rows(options.out, cost_rows(options.rows, options.dim))
        return
    describe = cached_descriptions(options.model, options.cache)
    landmarks = Landmarks(options.landmarks, describe)
    if options.command == "sweep":
        write_rows(options.out, sweep_rows(landmarks, options.chains))
        return
    write_rows(options.out, quality_rows(landmarks, Oxford(options.roxford, describe), options.chains))


if __name__ == "__main__":
    main()
