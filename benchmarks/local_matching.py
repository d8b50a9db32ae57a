"""Ways to pair the local features of two images and to verify the pairs, for `local_features.py` to compare."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.index.local_matching import LocalFeatures, verify

Score = Callable[[LocalFeatures, LocalFeatures, verify.Pairs], int]
"""Number of inliers among the pairs of features of two images."""


# Pairing


def pair_binary(a: NDArray[np.uint8], b: NDArray[np.uint8], ratio: float) -> verify.Pairs:
    """As `verify.pair`, by Hamming distance."""
    if len(a) == 0 or len(b) < 2:
        return np.empty((0, 2), np.intp)
    bits = np.bitwise_count(_words(a)[:, None] ^ _words(b)[None]).sum(axis=2, dtype=np.int32)
    return _chosen(bits.astype(np.float32), ratio, mutual=True)


def pair_floats(a: NDArray[np.floating], b: NDArray[np.floating], ratio: float, mutual: bool) -> verify.Pairs:
    """As `verify.pair`, with or without the test that features are each other's nearest."""
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
    """The points of the pairs, at the size that features were found at."""
    return a.points[pairs[:, 0]] / np.float64(a.scale), b.points[pairs[:, 1]] / np.float64(b.scale)


def votes(a: LocalFeatures, b: LocalFeatures, pairs: verify.Pairs, reach: float = verify.REACH) -> NDArray[Any]:
    """The pairs that one pair's proposal brings near."""
    x, y = point_pairs(a, b, pairs)
    ratios = (b.diameters[pairs[:, 1]] / b.scale) / (a.diameters[pairs[:, 0]] / a.scale)
    return verify.vote(x, y, ratios, reach)


def by_votes(reach: float) -> Score:
    """Votes alone."""
    return lambda a, b, pairs: int(votes(a, b, pairs, reach).sum())


def by_robust(kind: str, tolerance: float, *, reach: float | None = None) -> Score:
    """MAGSAC++ alone, or after the vote: a homography, an affine mapping or a fundamental matrix."""
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
    """As `verify.match_features`: the vote, MAGSAC++ on what it leaves, and what the homography maps of that."""

    def score(a: LocalFeatures, b: LocalFeatures, pairs: verify.Pairs) -> int:
        x, y = point_pairs(a, b, pairs)
        kept = votes(a, b, pairs, reach)
        model = verify.homography(x, y, kept, tolerance)
        count = 0 if model is None else int((kept & verify.agreeing(x, y, model, tolerance)).sum())
        return count if count >= verify.FEWEST else 0

    return score
