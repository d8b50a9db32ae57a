"""Confidence of a score: the probability that the best of equally many unrelated images would score lower.

The distribution of the scores of unrelated images is between a normal and a Gumbel distribution; with trained
descriptors it is close to a Gumbel distribution (`docs/search.md` has the figures). Its quantile function is a weighted
sum of both, fitted to the scores of pairs of images in the index. This needs no landmarks: pairs of the same landmark
are few and have high scores, so the fit uses only the lower part of the scores and extrapolates the upper tail. If F is
the distribution function of one score, that of the best of n scores is F to the power of n.
"""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from glam.index.ann.base import DescriptorSource

SAMPLE = 2_000
"""Size of the sample of images whose pairs are scored (arbitrary): 2 million pairs."""

FEWEST = 30
"""Fewest images for a fit (arbitrary): 435 pairs."""

FITTED = (0.05, 0.75)
"""Range of quantiles that is fitted (arbitrary): pairs of the same landmark rank above it unless they are many."""

SEED = 0
"""Seed of the sample."""

VARIATES = np.linspace(-3.0, 60.0, 1261)
"""Values of -ln(-ln F) at which quantiles are tabulated: up to probabilities of 1 - 1e-26."""


def _normal(variates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of the normal distribution at the given -ln(-ln F), accurate far into the upper tail."""
    above = -np.expm1(-np.exp(-variates))
    inverse = NormalDist().inv_cdf
    return np.array([-inverse(share) if share < 1 else -np.inf for share in above])


NORMAL = _normal(VARIATES)


@dataclass(frozen=True)
class Calibration:
    """Distribution of the score of two unrelated images in an index.

    The quantile at probability F is ``location + gumbel * g(F) + normal * z(F)``, where g and z are the quantile
    functions of the standard Gumbel and normal distributions.

    Attributes:
        location: a score near the middle of the distribution.
        gumbel: scale of the Gumbel part, at least 0.
        normal: scale of the normal part, at least 0.
    """

    location: float
    gumbel: float
    normal: float

    @classmethod
    def fit(cls, descriptors: DescriptorSource) -> Self | None:
        """Fits the distribution to the scores of pairs in a sample of descriptors.

        Args:
            descriptors: (n, dim) of unit length.

        Returns:
            The fitted distribution; None if there are fewer than `FEWEST` descriptors, or all are equal.
        """
        count = len(descriptors)
        if count < FEWEST:
            return None
        drawn = np.random.default_rng(SEED).choice(count, min(SAMPLE, count), replace=False)
        sample = descriptors[np.sort(drawn)]
        shares = np.linspace(*FITTED, 40)
        scores = np.quantile((sample @ sample.T)[np.triu_indices(len(sample), k=1)], shares)
        variates = -np.log(-np.log(shares))
        normal, ones = _normal(variates), np.ones_like(shares)
        (location, gumbel, scale), *_ = np.linalg.lstsq(np.stack([ones, variates, normal], axis=1), scores)
        if gumbel < 0:
            (scale, location), gumbel = np.polyfit(normal, scores, 1), 0.0
        elif scale < 0:
            (gumbel, location), scale = np.polyfit(variates, scores, 1), 0.0
        return cls(float(location), float(gumbel), float(scale)) if gumbel + scale > 1e-6 else None

    def confidence(self, scores: NDArray[np.float32], searched: int) -> NDArray[np.float64]:
        """The probability that the best of ``searched`` unrelated images scores lower.

        Args:
            scores: cosine similarities, of any shape.
            searched: number of images that were searched, at least 1.

        Returns:
            Probabilities in [0, 1], in the shape of ``scores``.
        """
        variates = np.interp(scores, self._quantiles, VARIATES)
        confidence: NDArray[np.float64] = np.exp(-searched * np.exp(-variates))
        return confidence

    def threshold(self, false_alarms: float, searched: int) -> float:
        """The score that the best of ``searched`` unrelated images reaches with a given probability.

        Args:
            false_alarms: the probability, in (0, 1).
            searched: number of images that are searched, at least 1.
        """
        variate = math.log(searched) - math.log(-math.log1p(-false_alarms))
        return float(np.interp(variate, VARIATES, self._quantiles))

    @property
    def _quantiles(self) -> NDArray[np.float64]:
        return self.location + self.gumbel * VARIATES + self.normal * NORMAL

    def to_dict(self) -> dict[str, Any]:
        """The attributes as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(float(values["location"]), float(values["gumbel"]), float(values["normal"]))
