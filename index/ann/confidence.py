"""How sure a result is: how seldom the best of as many unrelated images scores as high.

The scores of unrelated images lie between a normal and a Gumbel distribution, for trained descriptors close to the
latter (`docs/search.md` has the figures). The quantiles of pairs of an index's own images are fitted by a sum of the
two, without labels: pairs that show the same landmark are few and lie in the upper tail, so the tail is not looked at
but taken from the fit. If F is the distribution of one score, that of the best of n is F to the power of n.
"""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from glam.index.ann.base import DescriptorSource

SAMPLE = 2_000
"""Images whose pairs are looked at."""

FEWEST = 30
"""Images that a fit needs."""

FITTED = (0.05, 0.75)
"""Part of the pairs, from the lowest score up, that is fitted: safe while few of the pairs are related."""

SEED = 0

VARIATES = np.linspace(-3.0, 60.0, 1261)
"""-ln(-ln F), at which distributions are tabulated: up to chances of 1e-26."""


def _normal(variates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of the normal distribution at these variates, exact far up in the tail too."""
    above = -np.expm1(-np.exp(-variates))
    inverse = NormalDist().inv_cdf
    return np.array([-inverse(share) if share < 1 else -np.inf for share in above])


NORMAL = _normal(VARIATES)


@dataclass(frozen=True)
class Calibration:
    """Distribution of the score of two unrelated images of an index.

    Attributes:
        location: a score in its middle.
        gumbel: scale of the part of its quantiles that is Gumbel.
        normal: of the part that is normal.
    """

    location: float
    gumbel: float
    normal: float

    @classmethod
    def fit(cls, descriptors: DescriptorSource) -> Self | None:
        """Fits the scores of pairs among a sample of the descriptors; None where there are fewer than `FEWEST`, or all
        are the same.

        Args:
            descriptors: (n, dim) of unit length.
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
        (location, gumbel, usual), *_ = np.linalg.lstsq(np.stack([ones, variates, normal], axis=1), scores)
        if gumbel < 0:
            (usual, location), gumbel = np.polyfit(normal, scores, 1), 0.0
        elif usual < 0:
            (gumbel, location), usual = np.polyfit(variates, scores, 1), 0.0
        return cls(float(location), float(gumbel), float(usual)) if gumbel + usual > 1e-6 else None

    def confidence(self, scores: NDArray[np.float32], searched: int) -> NDArray[np.float64]:
        """How likely it is that the best of unrelated images scores lower, in [0, 1].

        Args:
            scores: of any shape.
            searched: among how many images they were found, at least 1.
        """
        variates = np.interp(scores, self._quantiles, VARIATES)
        confidence: NDArray[np.float64] = np.exp(-searched * np.exp(-variates))
        return confidence

    def threshold(self, false_alarms: float, searched: int) -> float:
        """The score that the best of ``searched`` unrelated images reaches with the chance ``false_alarms``.

        Args:
            false_alarms: in (0, 1).
            searched: images, at least 1.
        """
        variate = math.log(searched) - math.log(-math.log1p(-false_alarms))
        return float(np.interp(variate, VARIATES, self._quantiles))

    @property
    def _quantiles(self) -> NDArray[np.float64]:
        return self.location + self.gumbel * VARIATES + self.normal * NORMAL

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what `to_dict` made."""
        return cls(float(values["location"]), float(values["gumbel"]), float(values["normal"]))
