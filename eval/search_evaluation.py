"""Evaluation of an index or a running service, and exact ranking of the same descriptors for comparison.

    files --find_images--> image_ids --SearchTarget--> rows of the results --glam.eval.result_lists--> scores
    descriptors of the same images --score_folder, score_revisited--> scores of exact ranking

Rows are those of the evaluated images. Any other image of the index is a distractor and has row -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from glam.datasets.collection import Collection
from glam.errors import GlamError
from glam.eval.benchmark import Benchmark, BenchmarkReport, query_boxes
from glam.eval.folder import FolderReport, FolderScores, score_folder
from glam.eval.rerank import Rows
from glam.eval.result_lists import score_folder_lists, score_revisited_lists
from glam.eval.revisitop import ProtocolScores, score_revisited
from glam.eval.searcher import IndexSearcher, SearchTarget
from glam.progress import Progress, no_progress

DEPTH = 5_000
"""Default length of a result, which covers a database of up to some thousand images (arbitrary)."""

Scores = TypeVar("Scores")


@dataclass(frozen=True)
class SearchReport(Generic[Scores]):
    """Result of an evaluation of an index or a service.

    Attributes:
        scores: scores of the returned results.
        searched: what was searched and how, by name: index, structure, service, rerank, and depth.
    """

    scores: Scores
    searched: dict[str, Any]


def find_images(searcher: SearchTarget, files: Sequence[Path]) -> list[int]:
    """Finds the image_id of each file.

    Args:
        searcher: holds the images.
        files: (n,) files.

    Returns:
        (n,) image_ids.

    Raises:
        GlamError: a file is not in the index.
    """
    image_ids = searcher.image_ids(files)
    missing = [file for file, image_id in zip(files, image_ids, strict=True) if image_id is None]
    if missing:
        raise GlamError(
            f"{len(missing)} of {len(files)} images are not in the index, the first is {missing[0]}. "
            "Add them with `glam index build`."
        )
    return [image_id for image_id in image_ids if image_id is not None]


def search_folder(
    searcher: SearchTarget,
    collection: Collection,
    *,
    depth: int = DEPTH,
    progress: Progress = no_progress,
) -> SearchReport[FolderScores]:
    """Searches with every image of a folder and scores the results. A query is never in its own result.

    Args:
        searcher: holds the images of the folder; its other images are distractors.
        collection: the images of the folder; an image without a landmark is a distractor.
        depth: maximum number of images per result.
        progress: called with queries done and total queries.

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
    scores = score_folder_lists(lists, collection.landmark_ids)
    return SearchReport(scores, {**searcher.description, "depth": depth})


def search_benchmark(
    searcher: SearchTarget,
    benchmark: Benchmark,
    *,
    crop: bool = True,
    depth: int = DEPTH,
    progress: Progress = no_progress,
) -> SearchReport[dict[str, ProtocolScores]]:
    """Searches with the queries of a benchmark and scores the results.

    Args:
        searcher: holds the database images of the benchmark; its other images are distractors.
        benchmark: the images and the ground truth, see `glam.eval.benchmark.open_benchmark`.
        crop: whether each query is cropped to its box, as the protocol requires.
        depth: maximum number of images per result.
        progress: called with queries done and total queries.

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
    """Scores the exact ranking of a folder by the descriptors of an index.

    Args:
        searcher: its index holds the images of the folder; its other images are distractors.
        collection: the images of the folder; an image without a landmark is a distractor.

    Raises:
        GlamError: an image is not in the index, or no landmark has two images.
    """
    index = searcher.index
    image_ids = find_images(searcher, _files(collection))
    others = np.setdiff1d(index.image_ids, image_ids).tolist()
    distractors = index.descriptors(others) if others else None
    scores = score_folder(index.descriptors(image_ids), collection.landmark_ids, distractors)
    return FolderReport(scores, tuple(image.path for image in collection.images), len(others), ())


def rank_benchmark(searcher: IndexSearcher, benchmark: Benchmark, *, crop: bool = True) -> BenchmarkReport:
    """Scores the exact ranking of a benchmark by the descriptors of an index.

    Args:
        searcher: its index holds the database images of the benchmark; its other images are distractors. Its model
            computes the descriptors of the queries.
        benchmark: the images and the ground truth, see `glam.eval.benchmark.open_benchmark`.
        crop: whether each query is cropped to its box, as the protocol requires.

    Raises:
        GlamError: a database image is not in the index, or a query has no box.
        ImageError: a query cannot be read.
    """
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
