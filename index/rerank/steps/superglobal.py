"""Re-ranking with refined global descriptors, after SuperGlobal. It needs no data except the descriptors.

Source: S. Shao, K. Chen, A. Karpur, Q. Cui, A. Araujo, B. Cao, "Global features are all you need for image retrieval
and reranking", ICCV 2023 (arXiv 2308.06954). In the paper, the query is expanded by a maximum over its first results,
and a score is the mean of two cosines: query with refined image, and expanded query with original image. Here the query
is expanded by a mean over refined results, and a score is its cosine with the refined image.
"""

from dataclasses import dataclass

import numpy as np

from glam.index.rerank.base import Database, Query, Ranked, Step, option, reordered
from glam.index.rerank.query_mean import averaged, powers
from glam.index.types import Descriptors


@dataclass(frozen=True)
class SuperGlobal(Step):
    """Scores images by the cosine similarity of the expanded query and the refined image.

    Attributes:
        k: number of nearest neighbors that refine an image, from the list and the query.
        first: number of first results that expand the query.
        weight: factor of the cosine similarity in the weight of a neighbor or result.
        depth: number of images re-ranked.
    """

    k: int = option(4, 1, 100)
    first: int = option(3, 0, 100)
    weight: float = option(1.0, 0.0, 10.0)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Re-ranks a list; see `glam.index.rerank.base.Step`."""
        descriptors = database.matrix[ranked.rows[: self.depth]]
        refined = refine(descriptors, query.descriptor, self.k, self.weight)
        first = self.weight * powers(descriptors[: self.first] @ query.descriptor, 1)
        expanded = averaged(query.descriptor[None], refined[None, : self.first], first[None])[0]
        return reordered(ranked, refined @ expanded)


def refine(descriptors: Descriptors, query: Descriptors, k: int, weight: float) -> Descriptors:
    """The weighted mean of each image and its nearest neighbors among the other images and the query.

    Args:
        descriptors: (n, dim) float32 of unit length, descriptors of the images.
        query: (dim,) float32 of unit length.
        k: number of neighbors; if there are fewer, all are used.
        weight: factor of the cosine similarity in the weight of a neighbor.

    Returns:
        (n, dim) float32 of unit length.
    """
    others = np.concatenate([descriptors, query[None]])
    cosines = descriptors @ others.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argpartition(-cosines, min(k, len(descriptors)) - 1, axis=1)[:, :k]
    weights = weight * powers(np.take_along_axis(cosines, near, axis=1), 1)
    return averaged(descriptors, others[near], weights)
