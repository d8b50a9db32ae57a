"""Geometric verification: images that agree with the query in their geometry come first.

Source: J. Philbin, O. Chum, M. Isard, J. Sivic, A. Zisserman, "Object retrieval with large vocabularies and fast
spatial matching", CVPR 2007. How two images are compared: `glam.index.local_matching.verify`.

Few pairs that agree are often chance, and most photographs of a landmark share no more with one another. So an image
below the least number is left where it was: verification moves up, and never down.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.local_matching.verify import match_features
from glam.index.rerank.base import Database, Query, Ranked, Step, option, reordered

THREADS = 2
"""That compare at once; more would take a service's cores from its other requests."""


@dataclass(frozen=True)
class GeometricVerification(Step):
    """Scores are the pairs of points that agree, and 0 where they are fewer than ``least``.

    Attributes:
        least: pairs that an image needs to be moved up.
        depth: images looked at.
    """

    least: int = option(8, 4, 1000)
    depth: int = option(50, 1, 500)

    needs_local_features = True

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """See `glam.index.rerank.base.Step`."""
        count = partial(_agreeing, query.local_features(), database)
        with ThreadPoolExecutor(THREADS) as threads:
            counts = np.array(list(threads.map(count, ranked.rows[: self.depth].tolist())), dtype=np.int64)
        return reordered(ranked, np.where(counts >= self.least, counts, 0))


def _agreeing(asked: LocalFeatures, database: Database, row: int) -> int:
    found = database.local_features_in_row(row)
    return 0 if found is None else match_features(asked, found).count
