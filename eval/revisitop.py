"""The protocol of Revisited Oxford and Paris: Easy, Medium and Hard, from one ranking.

Source: F. Radenovic, A. Iscen, G. Tolias, Y. Avrithis, O. Chum, "Revisiting Oxford and Paris: large-scale image
retrieval benchmarking", CVPR 2018 (arXiv 1803.11285).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.ground_truth import GRADES, BenchmarkQuery, GroundTruth
from glam.eval.metrics import Ranks, average_precision, bootstrap_interval, precision_at
from glam.eval.ranks import count_above
from glam.eval.rerank import Rows, listed_counts, listed_keys, tie_break_keys_of_parts
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys
from glam.progress import Progress, no_progress

PROTOCOLS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""Of each protocol the grades that are positive, and those that are taken out of the ranking."""

CUTS = (1, 5, 10)


@dataclass(frozen=True)
class ProtocolScores:
    """Results in one protocol, fractions, over the queries that have a positive in it; NaN where none has.

    Attributes:
        mean_ap: mAP.
        interval: 95% bootstrap interval of it, over queries.
        precision: mP@k of each k in `CUTS`.
        ap: (q,) AP of each query; NaN where it has no positive.
    """

    mean_ap: float
    interval: tuple[float, float]
    precision: dict[int, float]
    ap: NDArray[np.float64]


def score_revisited(
    truth: GroundTruth,
    queries: Descriptors,
    database: Descriptors,
    distractors: Sequence[Descriptors] = (),
    *,
    lists: Sequence[Rows] | None = None,
    device: str | torch.device = "cpu",
    progress: Progress = no_progress,
) -> dict[str, ProtocolScores]:
    """Scores descriptors, the score of two images being their dot product; its order is that of `glam.eval.tie_break`.

    Args:
        truth: q queries over n images.
        queries: (q, dim).
        database: (n, dim).
        distractors: further images that are never positive, each (m, dim); they are read in blocks, once.
        lists: for each query the images that come first, whatever their scores (`glam.eval.rerank`).
        device: that compares the descriptors.
        progress: called with images compared and images in all, as it goes.

    Returns:
        The scores by protocol, in the order of `PROTOCOLS`.

    Raises:
        GlamError: the descriptors do not fit the ground truth or each other, or are infinite.
    """
    _check_shapes(truth, queries, database, distractors)
    parts = [database, *distractors]
    keys = [_keys_by_grade(*pair, database) for pair in zip(truth.queries, queries, strict=True)]
    positives = PROTOCOLS["medium"][0]
    targets = [np.concatenate([graded[grade] for grade in positives]) for graded in keys]
    counted = count_above(queries, targets, parts, device=device, progress=progress)
    if lists is not None:
        for row, (query, listed) in enumerate(zip(truth.queries, lists, strict=True)):
            before = tie_break_keys_of_parts(queries[row], parts, listed)
            rows = query.indices(*positives)
            counted[row] = listed_counts(counted[row], targets[row], rows, listed, before)
            keys[row] = {grade: listed_keys(keys[row][grade], query.indices(grade), listed) for grade in GRADES}
    above = [
        dict(zip(positives, np.split(counts, [len(graded[positives[0]])]), strict=True))
        for counts, graded in zip(counted, keys, strict=True)
    ]
    return {
        name: protocol_scores([_ranks(*pair, positive, junk) for pair in zip(keys, above, strict=True)])
        for name, (positive, junk) in PROTOCOLS.items()
    }


def _keys_by_grade(query: BenchmarkQuery, descriptor: NDArray[np.floating], database: Descriptors) -> dict[str, Keys]:
    """Tie-break keys of a query's judged images."""
    rows_by_grade = {grade: query.indices(grade) for grade in GRADES}
    return {grade: tie_break_keys(descriptor, database[rows], rows) for grade, rows in rows_by_grade.items()}


def _ranks(
    keys: dict[str, Keys], above: dict[str, NDArray[np.int64]], positive: Sequence[str], junk: Sequence[str]
) -> Ranks:
    """Ranks of the positives of one query, ascending: the images above each, less the junk above it."""
    removed = np.sort(np.concatenate([keys[grade] for grade in junk]))
    ranks = [above[grade] - (len(removed) - np.searchsorted(removed, keys[grade], side="right")) for grade in positive]
    return np.sort(np.concatenate(ranks))


def protocol_scores(ranks: Sequence[Ranks]) -> ProtocolScores:
    """Scores of one protocol from the ranks of each query's positives, (p,) ascending; p is 0 where it has none."""
    with_positives = [query_ranks for query_ranks in ranks if len(query_ranks)]
    ap = np.array([average_precision(query_ranks) if len(query_ranks) else np.nan for query_ranks in ranks])
    known = ap[~np.isnan(ap)]
    precision = {k: _mean([precision_at(query_ranks, k) for query_ranks in with_positives]) for k in CUTS}
    return ProtocolScores(_mean(known), bootstrap_interval(list(known[:, None])), precision, ap)


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _check_shapes(
    truth: GroundTruth, queries: Descriptors, database: Descriptors, distractors: Sequence[Descriptors]
) -> None:
    expected = [("queries", queries, len(truth.queries)), ("database", database, len(truth.images))]
    for what, descriptors, count in [
        *expected,
        *(("distractors", descriptors, len(descriptors)) for descriptors in distractors),
    ]:
        if descriptors.ndim != 2 or len(descriptors) != count:
            raise GlamError(
                f"the {what} want {count} descriptors, one per row, not an array of shape {descriptors.shape}"
            )
        if descriptors.shape[1] != queries.shape[1]:
            raise GlamError(f"the {what} have {descriptors.shape[1]} dimensions and the queries {queries.shape[1]}")
