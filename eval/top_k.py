"""mAP@k: the protocol of the retrieval benchmarks of Google Landmarks v2 (k = 100) and ILIAS (k = 1,000).

    benchmark, descriptors --score_top_k--> scores of each split     exact ranking
    benchmark, rows of the results --score_top_k_lists--> scores     results of any system

The AP of a query with m positives is divided by min(m, k), and a query without a positive does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from glam.errors import GlamError
from glam.eval.ground_truth import GroundTruth
from glam.eval.metrics import Ranks, average_precision_at
from glam.eval.rerank import Rows
from glam.eval.revisitop import ProtocolScores, exact_ranks
from glam.eval.tie_break import Descriptors
from glam.progress import Progress, no_progress


@dataclass(frozen=True)
class TopKBenchmark:
    """A ground truth that is scored by mAP@k.

    Attributes:
        truth: q queries over n database images; the positives of a query are its ``easy`` images, and it has no others.
        k: number of results that count.
        splits: (q,) name of the split of each query, such as ``public``; empty if the queries are not split.
    """

    truth: GroundTruth
    k: int
    splits: tuple[str, ...] = ()


def score_top_k(
    benchmark: TopKBenchmark,
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
        benchmark: q queries over n database images.
        queries: (q, dim) descriptors of the queries.
        database: (n, dim) descriptors of the database images.
        distractors: (m, dim) descriptors of each set of distractors, which are read in blocks.
        lists: for each query, the rows that re-ranking puts first, whatever their scores (`glam.eval.rerank`).
        device: device that compares the descriptors.
        progress: called with rows done and total rows.

    Returns:
        The scores of all queries as ``all``, then those of each split. APs of queries in other splits are NaN.

    Raises:
        GlamError: no query has a positive, or the descriptors do not fit the ground truth or each other, or are
            infinite.
    """
    ranks = exact_ranks(benchmark.truth, queries, database, distractors, lists=lists, device=device, progress=progress)
    return _scores(benchmark, ranks["easy"])


def score_top_k_lists(benchmark: TopKBenchmark, lists: Sequence[Rows] | Rows) -> dict[str, ProtocolScores]:
    """Scores results of limited length. If a result lists a row twice, the second one counts as wrong.

    Args:
        benchmark: q queries over n database images.
        lists: for each query, the rows of its result in ``benchmark.truth.images``, best first; -1 for a distractor or
            no result. An array of shape (q, r) is a sequence of q rows.

    Returns:
        The scores of all queries as ``all``, then those of each split. APs of queries in other splits are NaN.

    Raises:
        GlamError: no query has a positive, or the number of results is not q.
    """
    queries = benchmark.truth.queries
    if len(lists) != len(queries):
        raise GlamError(
            f"There are {len(lists):,} results, but the ground truth has {len(queries):,} queries. "
            "Give one result per query, in the order of the ground truth."
        )
    found = [
        _found_ranks(listed, query.indices("easy"), benchmark.k) for query, listed in zip(queries, lists, strict=True)
    ]
    return _scores(benchmark, found)


def _found_ranks(listed: Rows, positive: Rows, k: int) -> Ranks:
    """(p,) ascending ranks of the first places of the (p,) positives in a result; at least k for those not in it."""
    rows, first = np.unique(listed, return_index=True)
    found = np.sort(first[np.isin(rows, positive)])
    return np.concatenate([found, np.full(len(positive) - len(found), max(len(listed), k))])


def _scores(benchmark: TopKBenchmark, ranks: Sequence[Ranks]) -> dict[str, ProtocolScores]:
    ap = np.array([average_precision_at(of_query, benchmark.k) if len(of_query) else np.nan for of_query in ranks])
    if np.isnan(ap).all():
        raise GlamError(
            "There is nothing to evaluate, because no query has a positive in the database. Check the ground truth."
        )
    splits = np.array(benchmark.splits)
    in_split = {split: splits == split for split in sorted(set(benchmark.splits))}
    return {
        "all": ProtocolScores.of(ap, {}),
        **{name: ProtocolScores.of(np.where(mask, ap, np.nan), {}) for name, mask in in_split.items()},
    }
