"""The protocols of Revisited Oxford and Paris: Easy, Medium, and Hard, computed from one ranking.

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
from glam.eval.metrics import Ranks, average_precision, bootstrap_interval, mean_or_nan, precision_at
from glam.eval.ranks import count_above
from glam.eval.rerank import Rows, listed_counts, listed_keys, tie_break_keys_of_parts
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys, without_direction
from glam.progress import Progress, no_progress

PROTOCOLS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""For each protocol, the grades that are positive and the grades that are removed from the ranking."""

CUTS = (1, 5, 10)
"""Values of k at which the benchmark reports mP@k."""


@dataclass(frozen=True)
class ProtocolScores:
    """Scores in one protocol, as fractions. Means are over the queries that have a positive, and NaN if none has.

    Attributes:
        mean_ap: mAP.
        interval: low and high end of the 95% bootstrap interval of mAP, over queries.
        precision: mP@k for each k in `CUTS`; empty if the protocol does not define it.
        ap: (q,) AP of each query; NaN if it has no positive.
    """

    mean_ap: float
    interval: tuple[float, float]
    precision: dict[int, float]
    ap: NDArray[np.float64]

    @classmethod
    def of(cls, ap: NDArray[np.float64], precision: dict[int, float]) -> "ProtocolScores":
        """The scores of queries.

        Args:
            ap: (q,) AP of each query; NaN if it does not count.
            precision: mP@k by k.
        """
        known = ap[~np.isnan(ap)]
        return cls(mean_or_nan(known), bootstrap_interval(list(known[:, None])), precision, ap)


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
    """Scores the exact ranking of descriptors by dot product, with ties broken as in `glam.eval.tie_break`.

    A positive whose descriptor, or whose query's descriptor, is zero or has a NaN is ranked after all other images.

    Args:
        truth: q queries over n database images.
        queries: (q, dim) descriptors of the queries.
        database: (n, dim) descriptors of the database images.
        distractors: (m, dim) descriptors of each set of distractors, which are read in blocks.
        lists: for each query, the rows that re-ranking puts first, whatever their scores (`glam.eval.rerank`).
        device: device that compares the descriptors.
        progress: called with rows done and total rows.

    Returns:
        The scores by protocol, in the order of `PROTOCOLS`.

    Raises:
        GlamError: the descriptors do not fit the ground truth or each other, or are infinite.
    """
    ranks = exact_ranks(truth, queries, database, distractors, lists=lists, device=device, progress=progress)
    return {name: protocol_scores(protocol_ranks) for name, protocol_ranks in ranks.items()}


def exact_ranks(
    truth: GroundTruth,
    queries: Descriptors,
    database: Descriptors,
    distractors: Sequence[Descriptors] = (),
    *,
    lists: Sequence[Rows] | None = None,
    device: str | torch.device = "cpu",
    progress: Progress = no_progress,
) -> dict[str, list[Ranks]]:
    """Computes the ranks of the positives of each query, as `score_revisited` scores them.

    Args:
        truth: q queries over n database images.
        queries: (q, dim) descriptors of the queries.
        database: (n, dim) descriptors of the database images.
        distractors: (m, dim) descriptors of each set of distractors, which are read in blocks.
        lists: for each query, the rows that re-ranking puts first, whatever their scores (`glam.eval.rerank`).
        device: device that compares the descriptors.
        progress: called with rows done and total rows.

    Returns:
        For each protocol, in the order of `PROTOCOLS`, and each query, the (p,) ascending ranks of its positives.

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
    total = sum(map(len, parts))
    lost = _lost_by_grade(truth, queries, database, lists)
    return {
        name: [_ranks(*of_query, total, positive, junk) for of_query in zip(keys, above, lost, strict=True)]
        for name, (positive, junk) in PROTOCOLS.items()
    }


def _lost_by_grade(
    truth: GroundTruth, queries: Descriptors, database: Descriptors, lists: Sequence[Rows] | None
) -> list[dict[str, NDArray[np.bool_]]]:
    """For each query, which of its judged images cannot be found, by grade, unless re-ranking lists them."""
    lost = []
    for row, (query, is_lost) in enumerate(zip(truth.queries, without_direction(queries), strict=True)):
        listed = np.empty(0, dtype=np.int64) if lists is None else lists[row]
        rows_by_grade = {grade: query.indices(grade) for grade in GRADES}
        lost.append(
            {
                grade: (without_direction(database[rows]) | is_lost) & ~np.isin(rows, listed)
                for grade, rows in rows_by_grade.items()
            }
        )
    return lost


def _keys_by_grade(query: BenchmarkQuery, descriptor: NDArray[np.floating], database: Descriptors) -> dict[str, Keys]:
    """The tie-break keys of a query's judged images, by grade."""
    rows_by_grade = {grade: query.indices(grade) for grade in GRADES}
    return {grade: tie_break_keys(descriptor, database[rows], rows) for grade, rows in rows_by_grade.items()}


def _ranks(
    keys: dict[str, Keys],
    above: dict[str, NDArray[np.int64]],
    lost: dict[str, NDArray[np.bool_]],
    total: int,
    positive: Sequence[str],
    junk: Sequence[str],
) -> Ranks:
    """(p,) ascending ranks of the positives of a query: the number of images above each, minus the junk above it.

    Positives that are lost have the last of the ``total`` ranks that the junk leaves.
    """
    positives, counted, is_lost = (np.concatenate([of[grade] for grade in positive]) for of in (keys, above, lost))
    junk_keys = np.concatenate([keys[grade] for grade in junk])
    removed = np.sort(np.concatenate([junk_keys, positives[is_lost]]))
    ranks = counted - (len(removed) - np.searchsorted(removed, positives, side="right"))
    end = total - len(junk_keys)
    return np.concatenate([np.sort(ranks[~is_lost]), np.arange(end - is_lost.sum(), end)])


def protocol_scores(ranks: Sequence[Ranks]) -> ProtocolScores:
    """Computes the scores of one protocol.

    Args:
        ranks: for each query, the (p,) ascending ranks of its positives; p is 0 if it has none.
    """
    with_positives = [query_ranks for query_ranks in ranks if len(query_ranks)]
    ap = np.array([average_precision(query_ranks) if len(query_ranks) else np.nan for query_ranks in ranks])
    precision = {k: mean_or_nan([precision_at(query_ranks, k) for query_ranks in with_positives]) for k in CUTS}
    return ProtocolScores.of(ap, precision)


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
                f"The array of the {what} has shape {descriptors.shape}, but the ground truth needs {count} rows, one "
                "per image. Check that the descriptors belong to this ground truth."
            )
        if descriptors.shape[1] != queries.shape[1]:
            raise GlamError(
                f"The {what} have {descriptors.shape[1]} dimensions, but the queries have {queries.shape[1]}. "
                "Compute them with the same model."
            )
