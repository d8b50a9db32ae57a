"""Evaluation of what people search: an index or a running service, beside exact ranking of the same descriptors.

    files --find_images--> image ids --SearchTarget--> lists of rows --glam.eval.result_lists--> what is found
    descriptors of the same images --score_folder, score_revisited--> exact ranking

A list holds rows of the evaluated images, and -1 for every other image of the index, which is a distractor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from glam.datasets.collection import Collection
from glam.errors import GlamError
from glam.eval.benchmark import Benchmark, BenchmarkReport, query_boxes
from glam.eval.folder import FolderReport, FolderScores, known_landmark_ids, score_folder
from glam.eval.rerank import Rows
from glam.eval.result_lists import score_folder_lists, score_revisited_lists
from glam.eval.revisitop import ProtocolScores, score_revisited
from glam.eval.searcher import IndexSearcher, SearchTarget
from glam.progress import Progress, no_progress

DEPTH = 5_000
"""Images per list by default, which covers a database of up to some thousand images (arbitrary)."""

Scores = TypeVar("Scores")


@dataclass(frozen=True)
class SearchReport(Generic[Scores]):
    """An evaluation of an index or of a service.

    Attributes:
        scores: of the lists it returned.
        searched: what was searched and how: index, structure, service, rerank, depth.
    """

    scores: Scores
    searched: dict[str, Any]


def find_images(searcher: SearchTarget, files: Sequence[Path]) -> list[int]:
    """The image_id of each file.

    Raises:
        GlamError: some of them are not in the index.
    """
    image_ids = searcher.image_ids(files)
    missing = [file for file, image_id in zip(files, image_ids, strict=True) if image_id is None]
    if missing:
        raise GlamError(
            f"{len(missing)} of {len(files)} images are not in the index, the first is {missing[0]}; add them first"
        )
    return [image_id for image_id in image_ids if image_id is not None]


def search_folder(
    searcher: SearchTarget,
    collection: Collection,
    *,
    depth: int = DEPTH,
    progress: Progress = no_progress,
) -> SearchReport[FolderScores]:
    """Searches with every image of a folder and scores the lists. A query never finds itself.

    Args:
        searcher: holds the images of the folder; its other images are distractors.
        collection: the landmarks; an image without one is a distractor.
        depth: most images per list.
        progress: called with queries done and queries in all, as it goes.

    Raises:
        GlamError: an image is not in the index, or no landmark has two images.
    """
    image_ids = find_images(searcher, _files(collection))
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    depth = min(depth, len(searcher))
    lists = []
    for image_id in image_ids:
        lists.append(_rows(searcher.search_image(image_id, depth), row_of))
        progress(len(lists), len(image_ids))
    scores = score_folder_lists(lists, known_landmark_ids(collection))
    return SearchReport(scores, {**searcher.description, "depth": depth})


def search_benchmark(
    searcher: SearchTarget,
    benchmark: Benchmark,
    *,
    crop: bool = True,
    depth: int = DEPTH,
    progress: Progress = no_progress,
) -> SearchReport[dict[str, ProtocolScores]]:
    """Searches with the queries of a benchmark and scores the lists.

    Args:
        searcher: holds the database images of the benchmark; its other images are distractors.
        benchmark: see `glam.eval.benchmark.open_benchmark`.
        crop: crop each query to its box, as the protocol requires.
        depth: most images per list.
        progress: called with queries done and queries in all, as it goes.

    Raises:
        GlamError: a database image is not in the index, or a query has no box.
    """
    boxes = query_boxes(benchmark.truth, crop)
    row_of = {image_id: row for row, image_id in enumerate(find_images(searcher, benchmark.images))}
    depth = min(depth, len(searcher))
    lists = []
    for file, box in zip(benchmark.queries, boxes, strict=True):
        lists.append(_rows(searcher.search_file(file, box, depth), row_of))
        progress(len(lists), len(boxes))
    scores = score_revisited_lists(benchmark.truth, lists)
    return SearchReport(scores, {**searcher.description, "depth": depth})


def rank_folder(searcher: IndexSearcher, collection: Collection) -> FolderReport:
    """Exact ranking of a folder by the descriptors of an index; see `search_folder`."""
    index = searcher.index
    image_ids = find_images(searcher, _files(collection))
    others = np.setdiff1d(index.image_ids, image_ids).tolist()
    distractors = index.descriptors(others) if others else None
    scores = score_folder(index.descriptors(image_ids), known_landmark_ids(collection), distractors)
    return FolderReport(scores, tuple(image.path for image in collection.images), len(others), ())


def rank_benchmark(searcher: IndexSearcher, benchmark: Benchmark, *, crop: bool = True) -> BenchmarkReport:
    """Exact ranking of a benchmark by the descriptors of an index; see `search_benchmark`."""
    index, truth = searcher.index, benchmark.truth
    boxes = query_boxes(truth, crop)
    image_ids = find_images(searcher, benchmark.images)
    queries = np.stack([searcher.describe(file, box) for file, box in zip(benchmark.queries, boxes, strict=True)])
    others = np.setdiff1d(index.image_ids, image_ids).tolist()
    distractors = [index.descriptors(others)] if others else []
    scores = score_revisited(truth, queries, index.descriptors(image_ids), distractors)
    return BenchmarkReport(scores, tuple(query.name for query in truth.queries), crop, len(others), ())


def _files(collection: Collection) -> list[Path]:
    return [collection.file(i) for i in range(len(collection))]


def _rows(image_ids: Sequence[int], row_of: dict[int, int]) -> Rows:
    return np.array([row_of.get(image_id, -1) for image_id in image_ids], dtype=np.int64)
