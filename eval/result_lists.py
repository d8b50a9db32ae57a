"""Scores of result lists of limited depth: what an index or a service returns.

    list of rows --found_ranks--> ranks of the positives --folder_scores, protocol_scores--> the scores of exact ranking

A positive that is not in the list counts as not found: it adds nothing to the average precision.
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
"""Rank of a positive that is not in the list: precision at this rank is 0."""


def found_ranks(listed: Rows, positive: Rows, junk: Rows) -> Ranks:
    """Ranks of a query's positives in a list.

    Args:
        listed: (n,) rows, best first; -1 for an image that is neither positive nor junk for any query.
        positive: (p,) rows of the positives.
        junk: rows that are taken out of the list first.

    Returns:
        (p,) ascending; `NOT_FOUND` for each positive that is not listed.
    """
    scores = np.arange(len(listed), 0, -1, dtype=np.float64)
    found = positive_ranks(scores, np.isin(listed, positive), np.isin(listed, junk))
    return np.concatenate([found, np.full(len(positive) - len(found), NOT_FOUND)])


def score_folder_lists(lists: Sequence[Rows], landmark_ids: NDArray[np.int64]) -> FolderScores:
    """Scores lists by the protocol of a folder, where every image queries all others.

    Args:
        lists: per query the rows found, best first; -1 for an image outside the folder.
        landmark_ids: (n,) landmark of each image; a negative one is unknown, so the image is a distractor.

    Raises:
        GlamError: no landmark has two images.
    """
    ranks = []
    for query, listed in enumerate(lists):
        same = np.flatnonzero((landmark_ids == landmark_ids[query]) & (landmark_ids >= 0))
        ranks.append(found_ranks(listed, same[same != query], np.array([query])))
    return folder_scores(ranks, landmark_ids)


def score_revisited_lists(truth: GroundTruth, lists: Sequence[Rows]) -> dict[str, ProtocolScores]:
    """Scores lists by each protocol of Revisited Oxford and Paris.

    Args:
        truth: the queries.
        lists: per query the rows of ``truth.images`` found, best first; -1 for a distractor.
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
