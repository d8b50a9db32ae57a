"""Methods to match and verify the local features of two images, for `local_features.py` to compare."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.index.local_matching import LocalFeatures, verify

Score = Callable[[LocalFeatures, LocalFeatures, verify.Pairs], int]
"""Function that returns the number of inliers among the matched features of two images."""


# Matching


def pair_binary(a: NDArray[np.uint8], b: NDArray[np.uint8], ratio: float) -> verify.Pairs:
    """Matches features like `verify.pair`, by Hamming distance."""
    if len(a) == 0 or len(b) < 2:
        return np.empty((0, 2), np.intp)
    bits = np.bitwise_count(_words(a)[:, None] ^ _words(b)[None]).sum(axis=2, dtype=np.int32)
    return _chosen(bits.astype(np.float32), ratio, mutual=True)


def pair_floats(a: NDArray[np.floating], b: NDArray[np.floating], ratio: float, mutual: bool) -> verify.Pairs:
    """Matches features like `verify.pair`, with or without the condition of mutual nearest neighbors."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * (x @ y.T)
    return _chosen(np.sqrt(np.maximum(squares, 0)), ratio, mutual)


def _chosen(distances: NDArray[np.float32], ratio: float, mutual: bool) -> verify.Pairs:
    rows = np.arange(len(distances))
    nearest = distances.argmin(axis=1)
    kept = distances.argmin(axis=0)[nearest] == rows if mutual else np.ones(len(rows), bool)
    first = distances[rows, nearest]
    distances[rows, nearest] = np.inf
    ratios = first / np.maximum(distances.min(axis=1), 1e-9)
    order = np.flatnonzero(kept & (ratios <= ratio))
    order = order[np.argsort(ratios[order], kind="stable")]
    return np.stack([order, nearest[order]], axis=1)


def _words(descriptors: NDArray[np.uint8]) -> NDArray[np.uint64]:
    padded = np.pad(descriptors, ((0, 0), (0, -descriptors.shape[1] % 8)))
    return np.ascontiguousarray(padded).view(np.uint64)


# Verification


def point_pairs(a: LocalFeatures, b: LocalFeatures, pairs: verify.Pairs) -> tuple[verify.Points, verify.Points]:
    """Returns the points of the matches, in pixels of the images that the features were extracted from."""
    return a.points[pairs[:, 0]] / np.float64(a.scale), b.points[pairs[:, 1]] / np.float64(b.scale)


def votes(a: LocalFeatures, b: LocalFeatures, pairs: verify.Pairs, reach: float = verify.REACH) -> NDArray[Any]:
    """Returns the matches that agree with the transform of one match within ``reach`` pixels."""
    x, y = point_pairs(a, b, pairs)
    ratios = (b.diameters[pairs[:, 1]] / b.scale) / (a.diameters[pairs[:, 0]] / a.scale)
    return verify.vote(x, y, ratios, reach)


def by_votes(reach: float) -> Score:
    """Counts inliers by voting only."""
    return lambda a, b, pairs: int(votes(a, b, pairs, reach).sum())


def by_robust(kind: str, tolerance: float, *, reach: float | None = None) -> Score:
    """Counts inliers by MAGSAC++, after voting if ``reach`` is set: homography, affine, or fundamental matrix."""
    fewest = {"homography": 4, "affine": 3, "fundamental": 8}[kind]

    def score(a: LocalFeatures, b: LocalFeatures, pairs: verify.Pairs) -> int:
        x, y = point_pairs(a, b, pairs)
        if reach is not None:
            kept = votes(a, b, pairs, reach)
            x, y = np.ascontiguousarray(x[kept]), np.ascontiguousarray(y[kept])
        if len(x) < fewest:
            return 0
        params = verify.magsac(tolerance)
        try:
            if kind == "homography":
                model, inliers = cv2.findHomography(x, y, params)
            elif kind == "affine":
                model, inliers = cv2.estimateAffine2D(x, y, params)
            else:
                model, inliers = cv2.findFundamentalMat(x, y, params)
        except cv2.error:
            return 0
        return 0 if model is None or inliers is None else int(inliers.sum())

    return score


def by_chain(reach: float, tolerance: float) -> Score:
    """Counts inliers like `verify.match_features`: voting, then a homography by MAGSAC++, then its inliers."""

    def score(a: LocalFeatures, b: LocalFeatures, pairs: verify.Pairs) -> int:
        x, y = point_pairs(a, b, pairs)
        kept = votes(a, b, pairs, reach)
        model = verify.homography(x, y, kept, tolerance)
        count = 0 if model is None else int((kept & verify.agreeing(x, y, model, tolerance)).sum())
        return count if count >= verify.FEWEST else 0

    return score
