"""Evaluation on a folder of landmarks: every image queries all others.

The images of the same landmark are positive, the query itself is junk, distractors are never positive and never ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glam.datasets.collection import Collection
from glam.errors import GlamError, ImageError
from glam.eval.metrics import Ranks, average_precision, bootstrap_interval, positive_ranks, precision_at
from glam.inference.pipeline import Settings
from glam.model import Model
from glam.progress import Progress, no_progress

if TYPE_CHECKING:  # the index imports FAISS, which training and evaluation need only to re-rank
    from glam.eval.rerank import Rows
    from glam.index.rerank.chain import Chain

QUERY_BLOCK = 256

NO_POSITIVE: Ranks = np.empty(0, dtype=np.int64)
"""Ranks of a query that has nothing to find."""


@dataclass(frozen=True)
class FolderScores:
    """Results on a folder, fractions.

    Attributes:
        mean_ap: mAP, over the queries that have a positive.
        interval: 95% bootstrap interval of it, over landmarks.
        recall_at_1: share of queries whose nearest image is positive.
        precision_at_10: mP@10.
        ap: AP of each query; NaN where it has no positive.
    """

    mean_ap: float
    interval: tuple[float, float]
    recall_at_1: float
    precision_at_10: float
    ap: NDArray[np.float64]


def score_folder(
    descriptors: NDArray[np.float32],
    landmark_ids: NDArray[np.int64],
    distractors: NDArray[np.float32] | None = None,
    lists: "Sequence[Rows] | None" = None,
) -> FolderScores:
    """Scores descriptors of a folder.

    Args:
        descriptors: (n, dim), of unit length.
        landmark_ids: (n,) landmark of each image; a negative one is unknown, so the image is a distractor.
        distractors: (m, dim), further database images.
        lists: per query the rows that are ranked first, whatever their scores (`glam.eval.rerank`).

    Raises:
        GlamError: no landmark has two images.
    """
    database = descriptors if distractors is None else np.concatenate([descriptors, distractors])
    database_landmark_ids = np.concatenate([landmark_ids, np.full(len(database) - len(landmark_ids), -1)])
    ranks: list[Ranks] = []
    for start in range(0, len(descriptors), QUERY_BLOCK):
        block = descriptors[start : start + QUERY_BLOCK] @ database.T
        for query, scores in enumerate(block, start=start):
            positive = database_landmark_ids == landmark_ids[query]
            positive[query] = False
            if landmark_ids[query] < 0 or not positive.any():
                ranks.append(NO_POSITIVE)
                continue
            junk = np.zeros(len(database), dtype=bool)
            junk[query] = True
            if lists is not None:
                scores = _listed_scores(scores, lists[query])
            ranks.append(positive_ranks(scores, positive, junk))
    return folder_scores(ranks, landmark_ids)


def _listed_scores(scores: NDArray[np.floating], listed: "Rows") -> NDArray[np.float64]:
    """Scores, (n,), that rank the listed rows first, in their order, and the others as before."""
    moved = np.asarray(scores, dtype=np.float64).copy()
    moved[listed] = np.nanmax(moved, initial=0) + np.arange(len(listed), 0, -1)
    return moved


def folder_scores(ranks: Sequence[Ranks], landmark_ids: NDArray[np.int64]) -> FolderScores:
    """Scores from the ranks of each query's positives.

    Args:
        ranks: per query (p,) ascending; p is 0 where it has no positive.
        landmark_ids: (n,) landmark of each query.

    Raises:
        GlamError: no query has a positive.
    """
    ap = np.full(len(ranks), np.nan)
    first = np.full(len(ranks), np.nan)
    ten = np.full(len(ranks), np.nan)
    for query, of_query in enumerate(ranks):
        if len(of_query):
            ap[query], first[query], ten[query] = (
                average_precision(of_query),
                of_query[0] == 0,
                precision_at(of_query, 10),
            )
    has_positive = ~np.isnan(ap)
    if not has_positive.any():
        raise GlamError("no landmark has two images, so no query has anything to find")
    groups = [ap[has_positive & (landmark_ids == landmark_id)] for landmark_id in np.unique(landmark_ids[has_positive])]
    return FolderScores(
        float(ap[has_positive].mean()),
        bootstrap_interval(groups),
        float(first[has_positive].mean()),
        float(ten[has_positive].mean()),
        ap,
    )


@dataclass(frozen=True)
class FolderReport:
    """An evaluation of a model on a folder.

    Attributes:
        scores: the results.
        paths: of the queries, in the order of ``scores.ap``.
        distractors: how many were in the database beside the folder.
        unreadable: images left out, and why.
        rerank: the chain that reranked the lists; None without one.
    """

    scores: FolderScores
    paths: tuple[str, ...]
    distractors: int
    unreadable: tuple[ImageError, ...]
    rerank: str | None = None


def evaluate_folder(
    model: Model,
    collection: Collection,
    distractors: Collection | None = None,
    *,
    settings: Settings | None = None,
    chain: "Chain | None" = None,
    progress: Progress = no_progress,
) -> FolderReport:
    """Describes a folder of landmarks and scores it.

    A query is asked of the database as if its image were not in it, not even as a neighbor of others.

    Args:
        model: describes the images.
        collection: the landmarks; an image without one is a distractor.
        distractors: further database images.
        settings: size and scales; the model's own by default.
        chain: reranks the list of each query.
        progress: called with images done and images in all, as it goes; reranked queries count as further images.

    Raises:
        GlamError: no landmark has two readable images, or a step of the chain lacks what it needs.
    """
    settings = settings or model.settings()
    parts = [collection] if distractors is None else [collection, distractors]
    files = [part.file(i) for part in parts for i in range(len(part))]
    unreadable: list[ImageError] = []
    rerank_count = 0 if chain is None else len(collection)
    descriptors = model.describe(
        files,
        size=settings.size,
        scales=settings.scales,
        errors=unreadable,
        progress=lambda done, total: progress(done, total + rerank_count),
    )
    read = ~np.isnan(descriptors[:, 0])
    in_folder = np.flatnonzero(read[: len(collection)])
    others = np.flatnonzero(read[len(collection) :]) + len(collection)
    landmark_ids = known_landmark_ids(collection)[in_folder]
    lists = None
    if chain is not None:
        read_files = [files[i] for i in (*in_folder, *others)]
        lists = _rerank(chain, descriptors[in_folder], descriptors[others], read_files, progress, len(files))
    scores = score_folder(descriptors[in_folder], landmark_ids, descriptors[others] if len(others) else None, lists)
    paths = tuple(collection.images[i].path for i in in_folder)
    return FolderReport(scores, paths, len(others), tuple(unreadable), None if chain is None else str(chain))


def _rerank(
    chain: "Chain",
    queries: NDArray[np.float32],
    others: NDArray[np.float32],
    files: Sequence[Path],
    progress: Progress,
    described: int,
) -> "list[Rows]":
    """The re-ranked list of each query, from a database without its own image.

    Args:
        chain: re-ranks.
        queries: (q, dim) descriptors, also the first rows of the database.
        others: (m, dim) descriptors of the other rows.
        files: image of each row.
        progress: called with images done and images in total.
        described: images that progress counts as done before the first query.
    """
    from glam.eval.rerank import local_features_of, offset_progress, rerank_all
    from glam.index.rerank.base import Query
    from glam.index.rerank.memory_database import MemoryDatabase

    features = local_features_of(files)
    database = MemoryDatabase([queries, others], features)
    rerank_queries = [Query(descriptor, partial(features, row)) for row, descriptor in enumerate(queries)]
    return rerank_all(chain, rerank_queries, database.without, offset_progress(progress, described))


def known_landmark_ids(collection: Collection) -> NDArray[np.int64]:
    """(n,): the landmark of each image; -1 where it is unknown."""
    is_known = np.array([bool(image.landmark) for image in collection.images], dtype=bool)
    return np.where(is_known, collection.landmark_ids, -1)
