"""Scores of results of limited length, as an index or a service returns them.

    rows of the results --found_ranks--> ranks of the positives --folder_scores, protocol_scores--> scores

A positive outside the result counts as not found and adds nothing to the average precision.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glam.eval.folder import FolderScores, folder_scores
from glam.eval.ground_truth import GroundTruth
from glam.eval.metrics import Ranks, positive_ranks
from glam.eval.rerank import Rows
from glam.eval.revisitop import PROTOCOLS, ProtocolScores, protocol_scores

NOT_FOUND = 1 << 60
"""Rank of a positive that is not in the result; it is so large that the precision at it is practically 0."""


def found_ranks(listed: Rows, positive: Rows, junk: Rows) -> Ranks:
    """Finds the ranks of a query's positives in its result.

    Args:
        listed: (n,) rows of the result, best first; -1 for a distractor.
        positive: (p,) rows of the positives.
        junk: (j,) rows that are removed before ranks are counted.

    Returns:
        (p,) ascending ranks; `NOT_FOUND` for each positive that is not in the result.
    """
    scores = np.arange(len(listed), 0, -1, dtype=np.float64)
    found = positive_ranks(scores, np.isin(listed, positive), np.isin(listed, junk))
    return np.concatenate([found, np.full(len(positive) - len(found), NOT_FOUND)])


def score_folder_lists(lists: Sequence[Rows], landmark_ids: NDArray[np.int64]) -> FolderScores:
    """Scores results by the protocol of a folder, where every image is a query against all others.

    Args:
        lists: for each image as a query, the rows of its result, best first; -1 for an image outside the folder.
        landmark_ids: (n,) landmark id of each image; an image with a negative id, of an unknown landmark, is a
            distractor.

    Raises:
        GlamError: no landmark has two images.
    """
    ranks = []
    for query, listed in enumerate(lists):
        same = np.flatnonzero((landmark_ids == landmark_ids[query]) & (landmark_ids >= 0))
        ranks.append(found_ranks(listed, same[same != query], np.array([query])))
    return folder_scores(ranks, landmark_ids)


def score_revisited_lists(truth: GroundTruth, lists: Sequence[Rows]) -> dict[str, ProtocolScores]:
    """Scores results by each protocol of Revisited Oxford and Paris.

    Args:
        truth: the queries and their judgments.
        lists: for each query, the rows of its result in ``truth.images``, best first; -1 for a distractor.

    Returns:
        The scores by protocol, in the order of `glam.eval.revisitop.PROTOCOLS`.
    """
    return {
        name: protocol_scores(
            [
                found_ranks(listed, query.indices(*positive), query.indices(*junk))
                for query, listed in zip(truth.queries, lists, strict=True)
            ]
        )
        for name, (positive, junk) in PROTOCOLS.items()
    }
