"""Adaptation: it is fitted if held-out landmarks gain, and refused if they cannot tell."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glam import GlamError
from glam.eval.folder import score_folder
from glam.training.adapt import fit_if_better, landmark_halves

DIM = 24


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def images(
    landmarks: int, per_landmark: int, *, nuisance: float, noise: float = 0.3, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Descriptors of landmarks that differ within a landmark above all in the first four dimensions."""
    rng = np.random.default_rng(seed)
    landmark_ids = np.repeat(np.arange(landmarks), per_landmark)
    descriptors = rng.standard_normal((landmarks, DIM))[landmark_ids]
    spread = np.where(np.arange(DIM) < 4, nuisance, noise)
    return unit(descriptors + rng.standard_normal(descriptors.shape) * spread), landmark_ids


def test_nuisance_directions_are_scaled_down_and_other_landmarks_gain() -> None:
    descriptors, landmark_ids = images(20, 6, nuisance=4)
    found = fit_if_better(descriptors, descriptors, landmark_ids)
    assert found.whitening is not None
    assert (found.gain.landmarks, found.gain.queries) == (20, 120)
    others, other_ids = images(30, 6, nuisance=4, seed=1)
    before, after = (score_folder(rows, other_ids).mean_ap for rows in (others, found.whitening.apply(others)))
    assert after > before + 0.1
    assert found.gain.mean == pytest.approx(after - before, abs=0.1)


def test_a_gain_is_measured_by_layers_that_did_not_see_the_landmark() -> None:
    """As many dimensions as images: a layer that saw a landmark separates it from all others."""
    rng = np.random.default_rng(0)
    descriptors, landmark_ids = unit(rng.standard_normal((40, 200))), np.repeat(np.arange(10), 4)
    found = fit_if_better(descriptors, descriptors, landmark_ids, shrinkage=1e-3)
    assert found.whitening is None
    assert abs(found.gain.mean) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_landmarks_leave_the_model_unchanged(seed: int) -> None:
    descriptors, landmark_ids = images(20, 6, nuisance=4)
    shuffled = np.random.default_rng(seed).permutation(landmark_ids)
    assert fit_if_better(descriptors, descriptors, shuffled, seed=seed).whitening is None


def test_descriptors_without_an_error_leave_the_model_unchanged() -> None:
    descriptors, landmark_ids = images(20, 6, nuisance=0.05, noise=0.05)
    found = fit_if_better(descriptors, descriptors, landmark_ids)
    assert found.gain.before == 1
    assert found.whitening is None


def test_a_better_model_is_left_unchanged() -> None:
    """The layer helps, but less than the whitening that the model has."""
    descriptors, landmark_ids = images(20, 6, nuisance=4)
    best = unit(np.eye(20)[landmark_ids])
    found = fit_if_better(descriptors, best, landmark_ids)
    assert found.gain.before == 1
    assert found.gain.interval[1] < 0
    assert found.whitening is None


def test_images_without_a_landmark_and_single_images_are_neither_queries_nor_fitted_to() -> None:
    descriptors, landmark_ids = images(20, 6, nuisance=4)
    alone, _ = images(1, 30, nuisance=4, seed=1)
    more = np.concatenate([descriptors, alone])
    more_ids = np.concatenate([landmark_ids, np.full(29, -1), [20]])
    found = fit_if_better(more, more, more_ids)
    assert (found.gain.landmarks, found.gain.queries) == (20, 120)
    plain = fit_if_better(descriptors, descriptors, landmark_ids)
    assert found.whitening is not None
    assert plain.whitening is not None
    np.testing.assert_array_equal(found.whitening.projection, plain.whitening.projection)
    assert found.gain.before < plain.gain.before, "they are distractors"


def test_landmarks_with_pairs_are_divided_into_halves() -> None:
    landmark_ids = np.array([*np.repeat(np.arange(12), 3), 12, -1, -1])
    half = landmark_halves(landmark_ids, seed=3)
    first, second = (np.unique(landmark_ids[half == i]) for i in (0, 1))
    assert len(first) == len(second) == 6
    assert sorted([*first, *second]) == list(range(12))
    assert (half[36:] == -1).all()


def test_the_seed_chooses_the_halves_and_nothing_else_is_random() -> None:
    descriptors, landmark_ids = images(20, 6, nuisance=4)
    first, again, other = (fit_if_better(descriptors, descriptors, landmark_ids, seed=seed) for seed in (0, 0, 1))
    assert first.gain == again.gain
    assert first.gain.after != other.gain.after
    for found in (first, again, other):
        assert found.whitening is not None
        assert first.whitening is not None
        np.testing.assert_array_equal(found.whitening.projection, first.whitening.projection)


def test_too_few_landmarks_with_two_images_are_refused() -> None:
    descriptors, landmark_ids = images(20, 6, nuisance=4)
    landmark_ids[landmark_ids > 8] = np.arange(9, 9 + (landmark_ids > 8).sum())  # 9 with six images, others with one
    with pytest.raises(GlamError, match=r"^9 landmarks with two readable images .* Add images"):
        fit_if_better(descriptors, descriptors, landmark_ids)
    with pytest.raises(GlamError, match=r"^0 landmarks"):
        fit_if_better(descriptors, descriptors, np.full(len(descriptors), -1))


def test_equal_images_are_refused() -> None:
    _, landmark_ids = images(12, 2, nuisance=1)
    same = np.repeat(unit(np.ones((1, DIM))), 24, axis=0)
    with pytest.raises(GlamError, match="The descriptors of all images are the same"):
        fit_if_better(same, same, landmark_ids)
