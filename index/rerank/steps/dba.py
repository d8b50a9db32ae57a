"""Database-side augmentation: replaces the descriptor of each image by the mean of itself and its neighbors.

Sources: P. Turcot, D. Lowe, "Better matching with fewer features: the selection of useful features in large database
recognition problems", ICCV Workshops 2009. R. Arandjelovic, A. Zisserman, "Three things everyone should know to improve
object retrieval", CVPR 2012. A. Gordo, J. Almazan, J. Revaud, D. Larlus, "End-to-end learning of deep visual
representations for image retrieval", IJCV 2017, for global descriptors.

The means are computed from the kNN graph at search time, instead of being stored. The graph takes an eighth of their
memory, and k and alpha can be chosen for each search.
"""

from dataclasses import dataclass

import numpy as np

from glam.index.rerank.base import NEIGHBORS, Database, Query, Ranked, Step, option, reordered
from glam.index.rerank.query_mean import averaged, powers
from glam.index.rerank.steps.aqe import expand
from glam.index.types import Descriptors, Rows


@dataclass(frozen=True)
class DatabaseAugmentation(Step):
    """Averages each image with its neighbors, and the query with its first results, and compares these means.

    Scores are cosine similarities of the means.

    Attributes:
        k: number of neighbors of an image, and of results of the query, in a mean.
        alpha: exponent of the cosine similarity in the weight of a neighbor or result; 0 gives equal weights.
        depth: number of images re-ranked.
    """

    k: int = option(3, 1, NEIGHBORS)
    alpha: float = option(1.0, 0.0, 10.0)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Re-ranks a list; see `glam.index.rerank.base.Step`."""
        rows = ranked.rows[: self.depth]
        images = augment(rows, database, self.k, self.alpha)
        expanded = expand(query.descriptor, database.matrix[rows[: self.k]], self.alpha)
        return reordered(ranked, images @ expanded)


def augment(rows: Rows, database: Database, k: int, alpha: float) -> Descriptors:
    """The weighted means of images and their neighbors.

    Args:
        rows: (n,) int64, rows of the images.
        database: database with the kNN graph.
        k: number of neighbors in a mean.
        alpha: exponent of the cosine similarity in the weight of a neighbor.

    Returns:
        (n, dim) float32 of unit length.

    Raises:
        GlamError: the kNN graph is missing, out of date, or damaged.
    """
    neighbors = database.neighbors(rows)
    near = neighbors.rows[:, :k]
    weights = powers(neighbors.scores[:, :k], alpha)  # 0 if an image has fewer neighbors
    others, inverse = np.unique(near, return_inverse=True)
    descriptors = database.matrix[np.maximum(others, 0)]
    return averaged(database.matrix[rows], descriptors[inverse.reshape(near.shape)], weights)
