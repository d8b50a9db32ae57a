"""Micro average precision against the formula of the paper, written as loops, and the published file of GLDv2."""

import math
from pathlib import Path

import numpy as np
import pytest

from glam.errors import GlamError
from glam.eval import micro_average_precision, read_gldv2_recognition, score_recognition
from glam.eval.recognition import RecognitionQuery


def paper_micro_ap(predictions: list[tuple[float, bool]], queries: int) -> float:
    """1 / M * sum over i of P(i) rel(i), in the least favorable order of equal confidences."""

    def place(prediction: tuple[float, bool]) -> tuple[bool, float, bool]:
        confidence, is_right = prediction
        return (True, 0.0, is_right) if math.isnan(confidence) else (False, -confidence, is_right)

    ranked = [is_right for _, is_right in sorted(predictions, key=place)]
    total = 0.0
    for i in range(1, len(ranked) + 1):
        if ranked[i - 1]:
            total += sum(ranked[:i]) / i
    return total / queries


@pytest.mark.parametrize("seed", range(8))
def test_micro_ap_is_that_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidences = rng.integers(0, 5, size=40) / 4
    confidences[rng.random(40) < 0.2] = np.nan
    confidences[:2] = np.inf, -np.inf
    right = rng.random(40) < 0.4
    expected = paper_micro_ap(list(zip(confidences.tolist(), right.tolist(), strict=True)), 45)
    assert micro_average_precision(confidences, right, 45) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("confidences", "right", "expected"),
    [
        ([0.9, 0.8, 0.7], [1, 0, 1], (1 + 2 / 3) / 2),
        ([0.5, 0.5], [1, 0], (1 / 2) / 2),
        ([0.5, 0.5], [0, 1], (1 / 2) / 2),
        ([np.nan, -np.inf], [1, 0], (1 / 2) / 2),
        ([np.nan, np.nan, 0.1], [1, 0, 1], (1 + 2 / 3) / 2),
        ([], [], 0.0),
    ],
)
def test_micro_ap_by_hand(confidences: list[float], right: list[int], expected: float) -> None:
    found = micro_average_precision(np.array(confidences, dtype=float), np.array(right, dtype=bool), 2)
    assert found == pytest.approx(expected)


def test_micro_ap_without_a_landmark_is_refused() -> None:
    with pytest.raises(GlamError, match="no query shows a landmark"):
        micro_average_precision(np.array([0.5]), np.array([False]), 0)


@pytest.fixture
def queries() -> dict[str, RecognitionQuery]:
    return {
        "q1": RecognitionQuery(frozenset({"17"}), "public"),
        "q2": RecognitionQuery(frozenset({"17", "4"}), "private"),
        "q3": RecognitionQuery(frozenset(), "private"),
        "q4": RecognitionQuery(frozenset({"5"}), "private"),
    }


def test_predictions_are_scored_by_split(queries: dict[str, RecognitionQuery]) -> None:
    """A query without a landmark has only wrong predictions, and one without a prediction still counts."""
    scores = score_recognition(queries, {"q1": ("17", 0.9), "q2": ("4", 0.5), "q3": ("17", 0.7)})
    assert scores["all"].micro_ap == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert scores["public"].micro_ap == 1
    assert scores["private"].micro_ap == pytest.approx((1 / 2) / 2)
    private = scores["private"]
    assert (private.landmark_queries, private.other_queries, private.predictions) == (2, 1, 2)


def test_a_split_without_a_landmark_has_no_score() -> None:
    queries = {"q1": RecognitionQuery(frozenset({"1"}), "public"), "q2": RecognitionQuery(frozenset(), "private")}
    scores = score_recognition(queries, {"q1": ("1", 0.5), "q2": ("1", 0.5)})
    assert scores["public"].micro_ap == 1
    assert np.isnan(scores["private"].micro_ap)


def test_a_prediction_for_an_unknown_query_is_refused(queries: dict[str, RecognitionQuery]) -> None:
    with pytest.raises(GlamError, match="prediction for 'q9', which is not a query"):
        score_recognition(queries, {"q9": ("17", 0.9)})


def test_queries_without_any_landmark_are_refused() -> None:
    with pytest.raises(GlamError, match="no query shows a landmark"):
        score_recognition({"q1": RecognitionQuery(frozenset(), "public")}, {})


def test_the_recognition_solution_of_gldv2_is_read(tmp_path: Path, queries: dict[str, RecognitionQuery]) -> None:
    solution = tmp_path / "recognition_solution_v2.1.csv"
    solution.write_text("id,landmarks,Usage\nq1,17,Public\nq2,17 4,Private\nq3,,Private\nq4,5,Private\nq5,,Ignored\n")
    assert read_gldv2_recognition(solution) == queries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,images,Usage\nq1,17,Public\n", "has the columns"),
        ("id,landmarks,Usage\nq1,17,Public\nq2,1,2,Public\n", "line 3 has 4 of 3 columns"),
        ("id,landmarks,Usage\nq1,-1,Public\n", "line 2 has '-1' in place of an id"),
        ("id,landmarks,Usage\nq1,17,public\n", "line 2 has the Usage 'public'"),
    ],
)
def test_a_damaged_solution_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    solution = tmp_path / "solution.csv"
    solution.write_text(text)
    with pytest.raises(GlamError, match=message):
        read_gldv2_recognition(solution)
