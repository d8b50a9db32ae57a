"""Adaptation of a model to new landmarks: a linear layer fitted to descriptors, without training the backbone.

    (n, c) descriptors before whitening --learned whitening, shrunk--> linear layer
        --five folds of landmarks, each ranked with the layer of the other four--> gain in mAP with its interval

The layer is the learned whitening of `glam.eval.whitening`: it scales down the directions in which images of the same
landmark differ. The variance of the differences is shrunk toward a constant, so that few images change the descriptors
little (O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004). It is
computed in closed form, and only the choice of the folds is random.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.folder import score_folder
from glam.eval.gain import Gain, map_gain
from glam.eval.whitening import Whitening, fit_whitening
from glam.plurals import count

FOLDS = 5
"""Number of parts that the landmarks are divided into; each is held out once. The usual number."""

MIN_LANDMARKS = 10
"""Fewest landmarks with two images, two per fold: a bootstrap interval over fewer is too narrow (arbitrary)."""

SHRINKAGE = 3.0
"""See `glam.eval.whitening.fit_whitening`. Chosen by cross-validation on two folders (`benchmarks/adapt.py`)."""


@dataclass(frozen=True)
class Adaptation:
    """Result of an adaptation.

    Attributes:
        whitening: the layer, fitted to all images; None if it is not better than the model on held-out landmarks.
        gain: gain on held-out landmarks of layers that were fitted without them.
    """

    whitening: Whitening | None
    gain: Gain


def fit_if_better(
    descriptors: NDArray[np.float32],
    before: NDArray[np.float32],
    landmark_ids: NDArray[np.int64],
    *,
    seed: int = 0,
    shrinkage: float = SHRINKAGE,
) -> Adaptation:
    """Fits a linear layer to descriptors if it improves retrieval of landmarks that it was not fitted to.

    Args:
        descriptors: (n, c) float32 descriptors of unit length before whitening, the input of the layer.
        before: (n, dim) float32 descriptors of unit length of the unchanged model.
        landmark_ids: (n,) landmark id of each image; an image with a negative id, of an unknown landmark, is only a
            distractor.
        seed: seed of the folds.
        shrinkage: see `glam.eval.whitening.fit_whitening`.

    Returns:
        The layer, if the 95% interval of its gain is above 0, and the gain.

    Raises:
        GlamError: too few landmarks have two images.
    """
    fold = landmark_folds(landmark_ids, seed)
    after = np.full(len(descriptors), np.nan)
    for held_out in (fold == i for i in range(FOLDS)):
        whitening = _fit(descriptors[~held_out], landmark_ids[~held_out], shrinkage)
        adapted = whitening.apply(descriptors)
        after[held_out] = score_folder(adapted[held_out], landmark_ids[held_out], adapted[~held_out]).ap
    gain = map_gain(score_folder(before, landmark_ids).ap, after, landmark_ids)
    better = gain.interval[0] > 0
    return Adaptation(_fit(descriptors, landmark_ids, shrinkage) if better else None, gain)


def landmark_folds(landmark_ids: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Divides the landmarks with two images into `FOLDS` parts of equal size, at random.

    Args:
        landmark_ids: (n,) landmark id of each image; negative if unknown.
        seed: seed of the division.

    Returns:
        (n,) fold of each image; -1 if its landmark has no other image.

    Raises:
        GlamError: there are fewer than `MIN_LANDMARKS` landmarks with two images.
    """
    landmarks, counts = np.unique(landmark_ids[landmark_ids >= 0], return_counts=True)
    paired = landmarks[counts > 1]
    if len(paired) < MIN_LANDMARKS:
        raise GlamError(
            f"{count(len(paired), 'landmark')} with two readable images cannot show whether adapting helps. "
            f"Add images until {MIN_LANDMARKS} landmarks have two."
        )
    fold = np.full(len(landmark_ids), -1)
    for i, landmark in enumerate(np.random.default_rng(seed).permutation(paired)):
        fold[landmark_ids == landmark] = i % FOLDS
    return fold


def _fit(descriptors: NDArray[np.float32], landmark_ids: NDArray[np.int64], shrinkage: float) -> Whitening:
    return fit_whitening("learned", descriptors, landmark_ids, descriptors.shape[1], shrinkage=shrinkage)
