"""Metrics against hand-computed values and slow reference implementations."""

import numpy as np
import pytest

from glam.errors import GlamError
from glam.eval.folder import score_folder
from glam.eval.metrics import average_precision, bootstrap_interval, positive_ranks, precision_at


def test_average_precision_by_hand() -> None:
    assert average_precision(np.array([0, 1, 2])) == 1.0
    assert average_precision(np.array([1])) == pytest.approx((0 / 1 + 1 / 2) / 2)
    assert average_precision(np.array([0, 2])) == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2)


def test_precision_at_k_is_cut_at_the_last_positive() -> None:
    assert precision_at(np.array([0, 1]), 10) == 1.0
    assert precision_at(np.array([0, 3]), 10) == 2 / 4
    assert precision_at(np.array([0, 30]), 10) == 1 / 10
    assert precision_at(np.array([4]), 1) == 0.0


def test_junk_is_taken_out_before_ranks_are_counted() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    positive, junk = np.array([0, 0, 1, 1], dtype=bool), np.array([0, 1, 0, 0], dtype=bool)
    assert positive_ranks(scores, positive, junk).tolist() == [1, 2]


def test_equal_scores_keep_the_databases_order_and_nan_is_last() -> None:
    scores = np.array([0.5, np.nan, 0.5, 0.5])
    none = np.zeros(4, dtype=bool)
    assert positive_ranks(scores, np.array([0, 1, 1, 0], dtype=bool), none).tolist() == [1, 3]


def test_a_folder_is_scored_as_by_the_slow_way() -> None:
    random = np.random.default_rng(0)
    descriptors = random.normal(size=(40, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    landmark_ids = random.integers(0, 6, size=40)
    distractors = descriptors[:5] * np.float32(0.999)
    scores = score_folder(descriptors, landmark_ids, distractors)
    expected = []
    for query in range(40):
        others = [
            (float(descriptors[query] @ descriptor), int(landmark_ids[i] == landmark_ids[query]))
            for i, descriptor in enumerate(descriptors)
            if i != query
        ]
        others += [(float(descriptors[query] @ descriptor), 0) for descriptor in distractors]
        relevant = [found for _, found in sorted(others, key=lambda pair: -pair[0])]
        hits = np.flatnonzero(relevant)
        expected.append(np.mean([((j / r if r else 1) + (j + 1) / (r + 1)) / 2 for j, r in enumerate(hits)]))
    np.testing.assert_allclose(scores.ap, expected, rtol=1e-6)
    assert scores.mean_ap == pytest.approx(np.mean(expected))
    assert scores.interval[0] < scores.mean_ap < scores.interval[1]


def test_a_query_with_nothing_to_find_is_left_out() -> None:
    descriptors = np.eye(3, dtype=np.float32)
    scores = score_folder(descriptors, np.array([0, 0, 1]))
    assert np.isnan(scores.ap[2])
    assert scores.mean_ap == pytest.approx(np.nanmean(scores.ap))
    with pytest.raises(GlamError, match="because no landmark has two images"):
        score_folder(descriptors, np.array([0, 1, 2]))


def test_an_image_of_no_known_landmark_is_a_distractor() -> None:
    descriptors = np.array([[1, 0], [0.8, 0.6], [0.9, 0.436]], dtype=np.float32)
    scores = score_folder(descriptors, np.array([0, 0, -1]))
    assert np.isnan(scores.ap[2])
    assert scores.ap[0] < 1


def test_the_interval_is_over_groups() -> None:
    """All queries of a landmark are resampled together, so ten copies of each value must not narrow the interval."""
    values = np.random.default_rng(0).uniform(size=30)
    single = bootstrap_interval([np.array([v]) for v in values])
    copies = bootstrap_interval([np.full(10, v) for v in values])
    assert single == pytest.approx(copies)
    assert single[0] < values.mean() < single[1]


def test_in_the_interval_a_query_weighs_the_same_in_a_large_group_and_in_a_small_one() -> None:
    """The mean of the group means would be near 0.5."""
    low, high = bootstrap_interval([np.ones(90)] * 5 + [np.zeros(10)] * 5)
    assert low < 0.9 < high
    assert (low + high) / 2 > 0.7


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_images_without_a_descriptor_rank_last_and_find_nothing(value: float) -> None:
    """Row 0 is one of three images of its landmark; the order of the rows is in its favor."""
    descriptors = np.eye(6, dtype=np.float32)
    descriptors[1] = descriptors[2] = descriptors[0]
    descriptors[0] = value
    scores = score_folder(descriptors, np.array([0, 0, 0, -1, -1, -1]))
    assert scores.ap[0] == average_precision(np.array([3, 4]))
    assert scores.ap[1] == scores.ap[2] == average_precision(np.array([0, 4]))
