"""Evaluation on a folder of landmarks: every image is a query against all others.

Images of the same landmark are positive, and the query itself is junk. Distractors are in the database but are neither
positive nor queries.
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
from glam.eval.tie_break import without_direction
from glam.inference.pipeline import Settings
from glam.model import Model
from glam.progress import Progress, no_progress

if TYPE_CHECKING:  # the index imports FAISS, which training and evaluation need only to re-rank
    from glam.eval.rerank import Rows
    from glam.index.rerank.chain import Chain

QUERY_BLOCK = 256
"""Queries whose scores are computed at a time (arbitrary)."""

NO_POSITIVE: Ranks = np.empty(0, dtype=np.int64)
"""Ranks of the positives of a query that has none."""


@dataclass(frozen=True)
class FolderScores:
    """Scores on a folder, as fractions. Means are over the queries that have a positive.

    Attributes:
        mean_ap: mAP.
        interval: low and high end of the 95% bootstrap interval of mAP, over landmarks.
        recall_at_1: share of queries whose first result is positive.
        precision_at_10: mP@10.
        ap: (q,) AP of each query; NaN if it has no positive.
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
    """Scores the exact ranking of the descriptors of a folder.

    A descriptor that is zero or has a NaN ranks last for every query, and finds nothing as a query.

    Args:
        descriptors: (n, dim) float32 descriptors of unit length.
        landmark_ids: (n,) landmark id of each image; an image with a negative id, of an unknown landmark, is a
            distractor.
        distractors: (m, dim) float32 descriptors of further database images.
        lists: for each query, the rows that re-ranking puts first, whatever their scores (`glam.eval.rerank`).

    Raises:
        GlamError: no landmark has two images.
    """
    database = descriptors if distractors is None else np.concatenate([descriptors, distractors])
    database_landmark_ids = np.concatenate([landmark_ids, np.full(len(database) - len(landmark_ids), -1)])
    unknown = without_direction(database)
    ranks: list[Ranks] = []
    for start in range(0, len(descriptors), QUERY_BLOCK):
        block = descriptors[start : start + QUERY_BLOCK] @ database.T
        block[:, unknown] = np.nan
        block[unknown[start : start + len(block)]] = np.nan
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
    """(n,) scores that rank the ``listed`` rows first, in their order, and the others in their order in ``scores``."""
    moved = np.asarray(scores, dtype=np.float64).copy()
    moved[listed] = np.nanmax(moved, initial=0) + np.arange(len(listed), 0, -1)
    return moved


def folder_scores(ranks: Sequence[Ranks], landmark_ids: NDArray[np.int64]) -> FolderScores:
    """Computes the scores from the ranks of each query's positives.

    Args:
        ranks: for each query, the (p,) ascending ranks of its positives; p is 0 if it has none.
        landmark_ids: (q,) landmark id of each query.

    Raises:
        GlamError: no query has a positive.
    """
    ap = np.full(len(ranks), np.nan)
    first = np.full(len(ranks), np.nan)
    ten = np.full(len(ranks), np.nan)
    for query, query_ranks in enumerate(ranks):
        if len(query_ranks):
            ap[query], first[query], ten[query] = (
                average_precision(query_ranks),
                query_ranks[0] == 0,
                precision_at(query_ranks, 10),
            )
    has_positive = ~np.isnan(ap)
    if not has_positive.any():
        raise GlamError(
            "There is nothing to evaluate, because no landmark has two images. "
            "Choose a folder with one sub-folder per landmark and at least two images in one of them."
        )
    groups = [ap[has_positive & (landmark_ids == landmark_id)] for landmark_id in np.unique(landmark_ids[has_positive])]
    return FolderScores(
        float(ap[has_positive].mean()),
        bootstrap_interval(groups),
        float(first[has_positive].mean()),
        float(ten[has_positive].mean()),
        ap,
    )


def has_pair(landmark_ids: NDArray[np.int64]) -> bool:
    """Returns whether a landmark has two images, so that a score can be computed.

    Args:
        landmark_ids: (n,) landmark ids; negative for a distractor.
    """
    known = landmark_ids[landmark_ids >= 0]
    return len(np.unique(known)) < len(known)


@dataclass(frozen=True)
class FolderReport:
    """Result of an evaluation of a model on a folder.

    Attributes:
        scores: the scores.
        paths: (q,) paths of the queries, in the order of ``scores.ap``.
        distractors: number of additional distractors in the database.
        unreadable: errors of unreadable images, which are excluded.
        rerank: the chain that re-ranked the results; None without re-ranking.
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
    """Computes the descriptors of a folder of landmarks and scores their exact ranking.

    Each query searches a database without its own image, so that re-ranking does not meet it as a neighbor either.

    Args:
        model: computes the descriptors.
        collection: the images; an image without a landmark is a distractor.
        distractors: further database images; None for none.
        settings: image size and scales; those of the model by default.
        chain: re-ranks the result of each query; None for no re-ranking.
        progress: called with images done and total images; with a chain, each query counts as one more image.

    Raises:
        GlamError: no landmark has two readable images, or a step of the chain lacks its input.
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
    landmark_ids = collection.landmark_ids[in_folder]
    if unreadable and not has_pair(landmark_ids):
        raise GlamError(
            "There is nothing to evaluate, because no landmark has two readable images. "
            f"{len(unreadable):,} cannot be read; first: {unreadable[0]}. Restore the files and their permissions."
        )
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
        chain: the steps of re-ranking.
        queries: (q, dim) descriptors of the queries, which are also the first rows of the database.
        others: (m, dim) descriptors of the other rows.
        files: (q + m) image files, by row.
        progress: called with images done and total images.
        described: number of images that count as done before the first query.
    """
    from glam.eval.rerank import local_features_of, offset_progress, rerank_all
    from glam.index.rerank.base import Query
    from glam.index.rerank.memory_database import MemoryDatabase

    features = local_features_of(files)
    database = MemoryDatabase([queries, others], features)
    rerank_queries = [Query(descriptor, partial(features, row)) for row, descriptor in enumerate(queries)]
    return rerank_all(chain, rerank_queries, database.without, offset_progress(progress, described))
