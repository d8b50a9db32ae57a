"""Adaptation of a model to new landmarks: a linear layer fitted to descriptors, without training the backbone.

    (n, c) descriptors before whitening --learned whitening, shrunk--> linear layer
        --each half of the landmarks ranked with the layer of the other half--> gain in mAP with its interval

The layer is the learned whitening of `glam.eval.whitening`: it scales down the directions in which images of the same
landmark differ. The variance of the differences is shrunk toward a constant, so that few images change the descriptors
little (O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004). It is
computed in closed form, and only the choice of the halves is random.

A half is ranked without the images that its layer was fitted to: those come together and away from all others, whatever
their landmarks are, so with them as distractors even noise would seem to gain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.folder import score_folder
from glam.eval.gain import Gain, map_gain
from glam.eval.whitening import Whitening, fit_whitening
from glam.plurals import count

MIN_LANDMARKS = 10
"""Fewest landmarks with two images, five per half: a bootstrap interval over fewer is too narrow (arbitrary)."""

SHRINKAGE = 3.0
"""See `glam.eval.whitening.fit_whitening`. Chosen by cross-validation on two folders (`benchmarks/adapt.py`)."""

SAME = 1e-6
"""Difference of values up to which two descriptors are the same, in spite of rounding errors (arbitrary)."""


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
        landmark_ids: (n,) landmark id of each image; an image with a negative id, of an unknown landmark, or without
            another image of its landmark is only a distractor.
        seed: seed of the halves.
        shrinkage: see `glam.eval.whitening.fit_whitening`.

    Returns:
        The layer, if the 95% interval of its gain is above 0, and the gain.

    Raises:
        GlamError: too few landmarks have two images, or all images have the same descriptor.
    """
    half = landmark_halves(landmark_ids, seed)
    if bool((descriptors.max(axis=0) - descriptors.min(axis=0) < SAME).all()):
        raise GlamError("The descriptors of all images are the same, so that nothing can be fitted. Use other images.")
    ap = np.full((2, len(descriptors)), np.nan)
    for i in (0, 1):
        whitening = _fit(descriptors, landmark_ids, half == 1 - i, shrinkage)
        for row, rows in enumerate((before, whitening.apply(descriptors))):
            ap[row, half == i] = score_folder(rows[half == i], landmark_ids[half == i], rows[half < 0]).ap
    gain = map_gain(ap[0], ap[1], landmark_ids)
    better = gain.interval[0] > 0
    return Adaptation(_fit(descriptors, landmark_ids, half >= 0, shrinkage) if better else None, gain)


def landmark_halves(landmark_ids: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Divides the landmarks with two images into two halves at random.

    Args:
        landmark_ids: (n,) landmark id of each image; negative if unknown.
        seed: seed of the division.

    Returns:
        (n,) half of each image, 0 or 1; -1 if no other image has its landmark.

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
    half = np.full(len(landmark_ids), -1)
    for i, landmark in enumerate(np.random.default_rng(seed).permutation(paired)):
        half[landmark_ids == landmark] = i % 2
    return half


def _fit(
    descriptors: NDArray[np.float32], landmark_ids: NDArray[np.int64], chosen: NDArray[np.bool_], shrinkage: float
) -> Whitening:
    """The layer of the ``chosen`` images, which is as wide as its input."""
    return fit_whitening(
        "learned", descriptors[chosen], landmark_ids[chosen], descriptors.shape[1], shrinkage=shrinkage
    )
