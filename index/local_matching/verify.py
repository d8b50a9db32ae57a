"""Geometric verification: finds the matching features of two images that one homography explains.

    features --pair--> mutual nearest neighbors --vote--> largest set that a translation and a scale map closely
             --homography (MAGSAC++)--> a homography --agreeing--> pairs of the set that it maps closely

Between two web photos of a building, often fewer than one in five pairs of features is correct. Four random pairs are
then hardly ever all correct, as RANSAC requires. But features have sizes, so a single pair determines a translation and
a scale, and all of these hypotheses can be tested. The robust estimate of the homography then starts from pairs that
are mostly correct.

Sources: J. Philbin et al., "Object retrieval with large vocabularies and fast spatial matching", CVPR 2007, for
hypotheses from single pairs. D. Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020,
as implemented in OpenCV's USAC. benchmarks/local_features.py and docs/lab/explaining.md compare alternatives.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.index.local_matching.rootsift import LocalFeatures

Pairs = NDArray[np.intp]
"""(n, 2) indices of matching features in images a and b."""

Points = NDArray[np.float64]
"""(n, 2) x and y coordinates."""

Chosen = NDArray[np.bool_]
"""(n,) booleans that select some of n pairs."""

RATIO = 0.9
"""Largest ratio of the distances to the nearest and to the second-nearest feature (benchmarks/local_features.py)."""

REACH = 25.0
"""Largest distance in pixels, in the scaled image, between a point and its predicted position in `vote`. It is large
because a translation and a scale ignore perspective and depth (benchmarks/local_features.py)."""

SCALES = 2.0
"""Largest factor between the scales of two pairs that support the same hypothesis (arbitrary)."""

TOLERANCE = 8.0
"""Largest distance in pixels, in the scaled image, between a point and its position under the homography. It is large
because landmarks are rarely flat (benchmarks/local_features.py)."""

FEWEST = 4
"""Fewest pairs for a result: a homography always exists for fewer."""

ROUNDS = 1000
"""Most samples that the robust estimate draws (arbitrary)."""


@dataclass(frozen=True)
class Matches:
    """Pairs of matching points in two images a and b.

    Attributes:
        points_a: (n, 2) float32, x and y in pixels of the upright image a; the most distinctive pairs come first.
        points_b: (n, 2) float32, x and y in pixels of the upright image b.
        inliers: (n,) booleans, which pairs are consistent with ``model``.
        model: (3, 3) float64, homography from pixels of a to pixels of b; None if no pairs are consistent.
    """

    points_a: NDArray[np.float32]
    points_b: NDArray[np.float32]
    inliers: Chosen
    model: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.inliers)

    @property
    def count(self) -> int:
        """Number of inliers, which is the score of geometric verification."""
        return int(self.inliers.sum())


def match_features(a: LocalFeatures, b: LocalFeatures) -> Matches:
    """Matches the local features of two images and verifies the pairs geometrically. The result is deterministic.

    Args:
        a: local features of image a.
        b: local features of image b.
    """
    pairs = pair(a.descriptors, b.descriptors)
    points_a, points_b = a.points[pairs[:, 0]], b.points[pairs[:, 1]]
    ratios = (b.diameters[pairs[:, 1]] / b.scale) / (a.diameters[pairs[:, 0]] / a.scale)
    small_a, small_b = points_a / np.float64(a.scale), points_b / np.float64(b.scale)
    inliers = vote(small_a, small_b, ratios)
    model = homography(small_a, small_b, inliers)
    if model is not None:
        inliers = inliers & agreeing(small_a, small_b, model)
    if model is None or inliers.sum() < FEWEST:
        return Matches(points_a, points_b, np.zeros(len(pairs), bool), None)
    model = np.diag([b.scale, b.scale, 1.0]) @ model @ np.diag([1 / a.scale, 1 / a.scale, 1.0])
    return Matches(points_a, points_b, inliers, model)


def pair(a: NDArray[np.uint8], b: NDArray[np.uint8], ratio: float = RATIO) -> Pairs:
    """Pairs of features that are nearest neighbors of each other and pass the ratio test.

    Args:
        a: (n, d) uint8, descriptors of image a.
        b: (m, d) uint8, descriptors of image b.
        ratio: largest ratio of the distances to the nearest and to the second-nearest feature.

    Returns:
        (p, 2) indices of features in a and b; the pairs with the lowest ratio come first.
    """
    if len(a) == 0 or len(b) < 2:
        return np.empty((0, 2), np.intp)
    distances = _squared_distances(a, b)
    rows = np.arange(len(a))
    nearest = distances.argmin(axis=1)
    mutual = distances.argmin(axis=0)[nearest] == rows
    first = distances[rows, nearest]
    distances[rows, nearest] = np.inf
    ratios = first / np.maximum(distances.min(axis=1), 1e-9)
    passed = np.flatnonzero(mutual & (ratios <= ratio**2))
    passed = passed[np.argsort(ratios[passed], kind="stable")]
    return np.stack([passed, nearest[passed]], axis=1)


def vote(a: Points, b: Points, ratios: NDArray[np.floating], reach: float = REACH) -> Chosen:
    """The largest set of pairs that the translation and scale of one of the pairs map closely.

    Args:
        a: (n, 2) points in image a.
        b: (n, 2) points in image b.
        ratios: (n,) size of the feature in b divided by that in a.
        reach: largest distance between a point and its predicted position, in the unit of the points.

    Returns:
        (n,) booleans, the pairs in the set.
    """
    if len(a) == 0:
        return np.zeros(0, bool)
    scale = ratios[:, None]  # row i: the hypothesis of pair i
    across, down = (scale * (a[:, axis] - a[:, axis, None]) - (b[:, axis] - b[:, axis, None]) for axis in (0, 1))
    # If the scene is larger in b, a pixel of a covers several pixels of b.
    near = across**2 + down**2 < (reach * np.maximum(scale, 1)) ** 2
    same_scale = np.abs(np.log(ratios / scale)) < np.log(SCALES)
    supports: NDArray[np.bool_] = near & same_scale
    best: Chosen = supports[supports.sum(axis=1).argmax()]
    return best


def homography(a: Points, b: Points, chosen: Chosen, tolerance: float = TOLERANCE) -> NDArray[np.float64] | None:
    """Estimates a homography robustly with MAGSAC++.

    Args:
        a: (n, 2) points in image a.
        b: (n, 2) points in image b.
        chosen: (n,) booleans, the pairs to use.
        tolerance: largest distance of an inlier, in the unit of the points.

    Returns:
        (3, 3) float64, homography from a to b, scaled so that the last element is 1; None if there is none.
    """
    if chosen.sum() < FEWEST:
        return None
    try:
        model, _ = cv2.findHomography(
            np.ascontiguousarray(a[chosen]), np.ascontiguousarray(b[chosen]), magsac(tolerance)
        )
    except cv2.error:  # all points coincide or are collinear
        return None
    if model is None or model.shape != (3, 3) or not np.isfinite(model).all() or abs(model[2, 2]) < 1e-12:
        return None
    return np.asarray(model / model[2, 2])


def agreeing(a: Points, b: Points, model: NDArray[np.float64], tolerance: float = TOLERANCE) -> Chosen:
    """The pairs that a homography maps closely, with points in front of the camera.

    Args:
        a: (n, 2) points in image a.
        b: (n, 2) points in image b.
        model: (3, 3), homography from a to b.
        tolerance: largest distance between a point in b and the mapped point of a, in the unit of the points.

    Returns:
        (n,) booleans, the pairs that the homography maps closely.
    """
    mapped = a @ model[:, :2].T + model[:, 2]
    depth = mapped[:, 2]
    visible = depth * model[2, 2] > 0
    off = mapped[:, :2] / np.where(visible, depth, 1)[:, None] - b
    near: Chosen = visible & ((off**2).sum(axis=1) < tolerance**2)
    return near


def _squared_distances(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Squared distances (n, m) of descriptors (n, d) and (m, d). Exact in float32: they are integers below 2^24."""
    rows, columns = a.astype(np.float32), b.astype(np.float32)
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)
    return np.asarray(squares - 2 * (rows @ columns.T), dtype=np.float32)


def magsac(tolerance: float) -> cv2.UsacParams:
    """Settings of OpenCV's robust estimator.

    Args:
        tolerance: largest distance of an inlier.
    """
    params = cv2.UsacParams()
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.loMethod = cv2.LOCAL_OPTIM_SIGMA
    params.sampler = cv2.SAMPLING_UNIFORM
    params.threshold = tolerance
    params.confidence = 0.999
    params.maxIterations = ROUNDS
    params.randomGeneratorState = 0  # the same pairs always give the same result
    params.isParallel = False
    return params
