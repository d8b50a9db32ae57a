"""Confidence, on synthetic scores of known distribution."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.index.ann.confidence import FEWEST, Calibration
from glam.index.types import Descriptors


class ArrayDescriptors:
    """Descriptors in memory."""

    dim = 64

    def __init__(self, array: Descriptors) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Descriptors:
        return self.array[rows]


def unit(descriptors: NDArray[np.float64]) -> Descriptors:
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)


def unrelated(count: int, seed: int) -> Descriptors:
    return unit(np.random.default_rng(seed).normal(size=(count, ArrayDescriptors.dim)))


def fitted(descriptors: Descriptors) -> Calibration:
    calibration = Calibration.fit(ArrayDescriptors(descriptors))
    assert calibration is not None
    return calibration


def test_confidence_rises_with_the_score_and_falls_with_the_number_searched() -> None:
    calibration = fitted(unrelated(500, seed=0))
    sure = calibration.confidence(np.linspace(-1, 1, 50, dtype=np.float32), 500)
    assert ((sure >= 0) & (sure <= 1)).all()
    assert (np.diff(sure) >= 0).all()
    assert sure[0] == 0
    assert sure[-1] > 0.99
    score = np.float32(calibration.threshold(0.3, 1_000))
    assert (
        calibration.confidence(score, 100)
        > calibration.confidence(score, 1_000)
        > calibration.confidence(score, 10_000)
    )


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("searched", [1, 40, 1_000_000])
def test_threshold_is_the_inverse_of_confidence(rate: float, searched: int) -> None:
    calibration = Calibration(location=0.02, gumbel=0.04, normal=0.03)
    threshold = np.float64(calibration.threshold(rate, searched))
    assert calibration.confidence(threshold, searched) == pytest.approx(1 - rate)


def test_gumbel_scores_reach_the_threshold_at_the_given_rate() -> None:
    truth = Calibration(location=0.01, gumbel=0.05, normal=0.0)
    best = np.random.default_rng(0).gumbel(truth.location, truth.gumbel, size=(20_000, 200)).max(axis=1)
    assert (best >= truth.threshold(0.1, 200)).mean() == pytest.approx(0.1, abs=0.01)


def test_unrelated_queries_rarely_reach_the_threshold_and_related_ones_do() -> None:
    descriptors = unrelated(1_000, seed=1)
    calibration = fitted(descriptors)
    threshold = calibration.threshold(0.05, len(descriptors))
    strangers = (unrelated(500, seed=2) @ descriptors.T).max(axis=1)
    assert (strangers >= threshold).mean() <= 0.05
    views = unit(descriptors[:300] + 0.08 * np.random.default_rng(3).normal(size=(300, ArrayDescriptors.dim)))
    assert ((views @ descriptors.T).max(axis=1) >= threshold).mean() >= 0.95


@pytest.mark.parametrize("views", [2, 20, 50])
def test_related_pairs_in_the_index_hardly_move_the_fit(views: int) -> None:
    """1000 descriptors, ``views`` of each landmark: up to one pair in twenty is related."""
    means = np.random.default_rng(4).normal(size=(1_000 // views, ArrayDescriptors.dim))
    related = unit(
        np.repeat(means, views, axis=0) + 0.5 * np.random.default_rng(5).normal(size=(1_000, ArrayDescriptors.dim))
    )
    clean, moved = fitted(unrelated(1_000, seed=6)), fitted(related)
    assert moved.threshold(0.05, 1_000) == pytest.approx(clean.threshold(0.05, 1_000), abs=0.12)


def test_too_few_or_equal_descriptors_have_no_calibration() -> None:
    assert Calibration.fit(ArrayDescriptors(unrelated(FEWEST - 1, seed=0))) is None
    assert Calibration.fit(ArrayDescriptors(np.repeat(unrelated(1, seed=0), 100, axis=0))) is None


def test_a_calibration_survives_json() -> None:
    calibration = fitted(unrelated(100, seed=0))
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert fitted(unrelated(100, seed=0)) == calibration
