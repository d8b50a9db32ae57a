"""Database-side augmentation: every image is compared as the mean of itself and its neighbors.

Sources: P. Turcot, D. Lowe, "Better matching with fewer features: the selection of useful features in large database
recognition problems", ICCV Workshops 2009. R. Arandjelovic, A. Zisserman, "Three things everyone should know to improve
object retrieval", CVPR 2012. A. Gordo, J. Almazan, J. Revaud, D. Larlus, "End-to-end learning of deep visual
representations for image retrieval", IJCV 2017, for global descriptors.

What is stored is the graph of neighbors. A mean is taken when its image is looked at: it takes an eighth of the
memory, and k and alpha stay free.
"""

from dataclasses import dataclass

import numpy as np

from glam.index.rerank.base import NEIGHBORS, Database, Query, Ranked, Step, option, reordered
from glam.index.rerank.query_mean import averaged, powers
from glam.index.rerank.steps.aqe import expand
from glam.index.types import Descriptors, Rows


@dataclass(frozen=True)
class DatabaseAugmentation(Step):
    """Compares means with a mean: the query is averaged with its first results, as an image is with its neighbors.

    Scores are cosines of the means.

    Attributes:
        k: neighbors of an image, or results of the query, that a mean is taken over.
        alpha: power of its cosine that each of them weighs; 0 for equal weights.
        depth: images looked at.
    """

    k: int = option(3, 1, NEIGHBORS)
    alpha: float = option(1.0, 0.0, 10.0)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """See `glam.index.rerank.base.Step`."""
        looked_at = ranked.rows[: self.depth]
        images = augment(looked_at, database, self.k, self.alpha)
        asking = expand(query.descriptor, database.matrix[looked_at[: self.k]], self.alpha)
        return reordered(ranked, images @ asking)


def augment(rows: Rows, database: Database, k: int, alpha: float) -> Descriptors:
    """The means of the images in (n,) rows, each with its ``k`` nearest, (n, dim) of unit length."""
    neighbors = database.neighbors(rows)
    near = neighbors.rows[:, :k]
    weights = powers(neighbors.scores[:, :k], alpha)  # 0 where there is no neighbor
    others, inverse = np.unique(near, return_inverse=True)
    descriptors = database.matrix[np.maximum(others, 0)]
    return averaged(database.matrix[rows], descriptors[inverse.reshape(near.shape)], weights)
