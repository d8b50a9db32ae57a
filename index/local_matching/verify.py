"""Whether two photographs agree in their geometry: which pairs of like features lie alike.

    features --pair--> each other's nearest --vote--> the most that one shift and scale brings near
             --homography (MAGSAC++)--> a perspective mapping --agreeing--> those of them that it maps

Between photographs of a building from the web often fewer than one pair of features in five is right. Four random pairs
are then hardly ever all right, but one is soon: since a feature has a size, a single pair says how one image lies in
the other, up to perspective, and all pairs can be tried. The robust estimate then starts from pairs that are mostly
right.

Sources: J. Philbin et al., "Object retrieval with large vocabularies and fast spatial matching", CVPR 2007 (one pair
proposes). D. Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020, as in OpenCV's USAC.
What else was tried, and what it came to: benchmarks/local_features.py, docs/lab/explaining.md.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.index.local_matching.rootsift import LocalFeatures

Pairs = NDArray[np.intp]
"""(n, 2) rows of the descriptors of a and of b."""

Points = NDArray[np.float64]
"""(n, 2), x and y."""

Chosen = NDArray[np.bool_]
"""(n,), which of n pairs."""

RATIO = 0.9
"""Most that the distance to the nearest feature may be of that to the second nearest."""

REACH = 25.0
"""Pixels, at the size that features were found at, that a pair may lie off what another pair proposes: perspective and
depth are still to come."""

SCALES = 2.0
"""Most that the sizes of two pairs' features may disagree."""

TOLERANCE = 8.0
"""Pixels, likewise, that a pair may lie off the homography: a landmark is seldom flat."""

FEWEST = 4
"""Pairs below which nothing was found: any fewer have a homography."""

ROUNDS = 1000
"""Samples that the robust estimate draws at most."""


@dataclass(frozen=True)
class Matches:
    """Pairs of matching points in images a and b.

    Attributes:
        points_a: (n, 2) float32, x and y in pixels of the upright image a; the surest pairs come first.
        points_b: (n, 2) float32, in pixels of b.
        inliers: (n,) which pairs agree: the vote chose them, and ``model`` maps them.
        model: (3, 3) float64, homography that maps pixels of a to pixels of b; None where no pairs agree.
    """

    points_a: NDArray[np.float32]
    points_b: NDArray[np.float32]
    inliers: Chosen
    model: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.inliers)

    @property
    def count(self) -> int:
        """How many pairs agree: the score of geometric verification."""
        return int(self.inliers.sum())


def match_features(a: LocalFeatures, b: LocalFeatures) -> Matches:
    """Pairs the features of two images and verifies the pairs. The same features always give the same result."""
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
    """Features that are each other's nearest, and clearly nearer than a's second nearest.

    Args:
        a: (n, d) descriptors.
        b: (m, d) descriptors.
        ratio: see `RATIO`.

    Returns:
        (p, 2) rows of a and of b, the clearest first.
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
    kept = np.flatnonzero(mutual & (ratios <= ratio**2))
    kept = kept[np.argsort(ratios[kept], kind="stable")]
    return np.stack([kept, nearest[kept]], axis=1)


def vote(a: Points, b: Points, ratios: NDArray[np.floating], reach: float = REACH) -> Chosen:
    """The most pairs that the shift and the scale of one of them bring near.

    Args:
        a: (n, 2) points in image a.
        b: (n, 2) points in image b.
        ratios: (n,) size of the feature in b to that in a.
        reach: see `REACH`; in the unit of the points.
    """
    if len(a) == 0:
        return np.zeros(0, bool)
    scale = ratios[:, None]  # row i: what pair i proposes
    across, down = (scale * (a[:, axis] - a[:, axis, None]) - (b[:, axis] - b[:, axis, None]) for axis in (0, 1))
    # Where b is the larger of both, a pixel of a covers several of its own.
    near = across**2 + down**2 < (reach * np.maximum(scale, 1)) ** 2
    like = np.abs(np.log(ratios / scale)) < np.log(SCALES)
    together: NDArray[np.bool_] = near & like
    best: Chosen = together[together.sum(axis=1).argmax()]
    return best


def homography(a: Points, b: Points, chosen: Chosen, tolerance: float = TOLERANCE) -> NDArray[np.float64] | None:
    """The homography from a to b that most of the chosen pairs agree on, (3, 3) ending in 1; None without one.

    Args:
        a: (n, 2) points in image a.
        b: (n, 2) points in image b.
        chosen: (n,) which of them are looked at.
        tolerance: see `TOLERANCE`; in the unit of the points.
    """
    if chosen.sum() < FEWEST:
        return None
    try:
        model, _ = cv2.findHomography(
            np.ascontiguousarray(a[chosen]), np.ascontiguousarray(b[chosen]), magsac(tolerance)
        )
    except cv2.error:  # points that all lie on one spot or on one line
        return None
    if model is None or model.shape != (3, 3) or not np.isfinite(model).all() or abs(model[2, 2]) < 1e-12:
        return None
    return np.asarray(model / model[2, 2])


def agreeing(a: Points, b: Points, model: NDArray[np.float64], tolerance: float = TOLERANCE) -> Chosen:
    """The pairs that a homography brings together, on this side of the horizon.

    Args:
        a: (n, 2) points in image a.
        b: (n, 2) points in image b.
        model: (3, 3), from a to b.
        tolerance: see `TOLERANCE`; in the unit of the points.
    """
    mapped = a @ model[:, :2].T + model[:, 2]
    depth = mapped[:, 2]
    visible = depth * model[2, 2] > 0
    off = mapped[:, :2] / np.where(visible, depth, 1)[:, None] - b
    near: Chosen = visible & ((off**2).sum(axis=1) < tolerance**2)
    return near


def _squared_distances(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, d) and (m, d) to (n, m), exact: the numbers are whole and below 2^24."""
    rows, columns = a.astype(np.float32), b.astype(np.float32)
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)
    return np.asarray(squares - 2 * (rows @ columns.T), dtype=np.float32)


def magsac(tolerance: float) -> cv2.UsacParams:
    """Settings of the robust estimate."""
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
