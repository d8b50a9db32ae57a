"""Geometric verification: moves images to the top whose local features match the query geometrically.

Source: J. Philbin, O. Chum, M. Isard, J. Sivic, A. Zisserman, "Object retrieval with large vocabularies and fast
spatial matching", CVPR 2007. `glam.index.local_matching.verify` compares two images.

A few inliers are often due to chance, and most images of the same landmark have no more. So images with fewer inliers
than a threshold keep their order: verification moves images up, but a low count is no reason to move one down.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.local_matching.verify import match_features
from glam.index.rerank.base import Database, Query, Ranked, Step, option, reordered

THREADS = 2
"""Threads that compare images (arbitrary); more would take cores from the other requests of a service."""


@dataclass(frozen=True)
class GeometricVerification(Step):
    """Scores images by their number of inliers with the query; fewer than ``least`` count as 0.

    Attributes:
        least: fewest inliers that move an image up.
        depth: number of images re-ranked.
    """

    least: int = option(8, 4, 1000)
    depth: int = option(50, 1, 500)

    needs_local_features = True

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Re-ranks a list; see `glam.index.rerank.base.Step`."""
        count = partial(_inliers, query.local_features(), database)
        with ThreadPoolExecutor(THREADS) as threads:
            counts = np.array(list(threads.map(count, ranked.rows[: self.depth].tolist())), dtype=np.int64)
        return reordered(ranked, np.where(counts >= self.least, counts, 0))


def _inliers(query_features: LocalFeatures, database: Database, row: int) -> int:
    features = database.local_features_in_row(row)
    return 0 if features is None else match_features(query_features, features).count
