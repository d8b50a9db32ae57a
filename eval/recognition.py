"""Landmark recognition as in Google Landmarks v2: one prediction per query, scored by micro average precision.

Source: T. Weyand et al., "Google Landmarks Dataset v2", CVPR 2020 (arXiv 2004.01804). The authors' program
(``research/delf`` in https://github.com/tensorflow/models) ranks equal confidences by the id of the query. Here, wrong
predictions rank first.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from glam.errors import GlamError
from glam.eval.metrics import micro_average_precision


@dataclass(frozen=True)
class RecognitionQuery:
    """A query image.

    Attributes:
        landmarks: the landmarks that it shows; any of them is a right prediction. Empty for a query without a landmark.
        split: name of its split, such as ``public``.
    """

    landmarks: frozenset[str]
    split: str


@dataclass(frozen=True)
class RecognitionScores:
    """Scores of one split.

    Attributes:
        micro_ap: micro average precision, a fraction; NaN if no query of the split shows a landmark.
        landmark_queries: number of queries that show a landmark.
        other_queries: number of queries without a landmark, for which any prediction is wrong.
        predictions: number of predictions.
    """

    micro_ap: float
    landmark_queries: int
    other_queries: int
    predictions: int


def score_recognition(
    queries: Mapping[str, RecognitionQuery], predictions: Mapping[str, tuple[str, float]]
) -> dict[str, RecognitionScores]:
    """Scores predicted landmarks. `glam.eval.metrics.micro_average_precision` says how ties and NaN rank.

    Args:
        queries: the queries by id, see `glam.eval.gldv2.read_gldv2_recognition`.
        predictions: landmark and confidence by the id of the query. A query may have no prediction.

    Returns:
        The scores of all queries as ``all``, then those of each split.

    Raises:
        GlamError: no query shows a landmark, or a prediction is for an unknown query.
    """
    unknown = next((id for id in predictions if id not in queries), None)
    if unknown is not None:
        raise GlamError(
            f"There is a prediction for {unknown!r}, which is not a query of the ground truth. "
            "Leave it out, or choose the ground truth of these queries."
        )
    in_split = {
        split: [id for id, query in queries.items() if query.split == split]
        for split in sorted({query.split for query in queries.values()})
    }
    scores = {split: _scores(queries, predictions, ids) for split, ids in {"all": list(queries), **in_split}.items()}
    if not scores["all"].landmark_queries:
        raise GlamError("There is nothing to evaluate, because no query shows a landmark. Check the ground truth.")
    return scores


def _scores(
    queries: Mapping[str, RecognitionQuery], predictions: Mapping[str, tuple[str, float]], ids: Collection[str]
) -> RecognitionScores:
    landmark_queries = sum(bool(queries[id].landmarks) for id in ids)
    made = [(queries[id], *predictions[id]) for id in ids if id in predictions]
    confidences = np.array([confidence for _, _, confidence in made], dtype=np.float64)
    right = np.array([landmark in query.landmarks for query, landmark, _ in made], dtype=bool)
    micro_ap = micro_average_precision(confidences, right, landmark_queries) if landmark_queries else float("nan")
    return RecognitionScores(micro_ap, landmark_queries, len(ids) - landmark_queries, len(made))
