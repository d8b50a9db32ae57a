"""Reranking by refined global descriptors, in the manner of SuperGlobal; it needs nothing but the descriptors.

Source: S. Shao, K. Chen, A. Karpur, Q. Cui, A. Araujo, B. Cao, "Global features are all you need for image retrieval
and reranking", ICCV 2023 (arXiv 2308.06954). What differs: there the query is expanded by a maximum over its first
results, and a score is the mean of two cosines, query with refined image and expanded query with plain image. Here the
query is expanded by a mean of refined results and compared with refined images.
"""

from dataclasses import dataclass

import numpy as np

from glam.index.rerank.base import Database, Query, Ranked, Step, option, reordered
from glam.index.rerank.query_mean import averaged, powers
from glam.index.types import Descriptors


@dataclass(frozen=True)
class SuperGlobal(Step):
    """Scores are cosines of the expanded query with the refined images.

    Attributes:
        k: nearest images of the list, and the query among them, that an image is refined with.
        first: results, by their rank, that the query is expanded with.
        weight: of a neighbor, times its cosine.
        depth: images looked at.
    """

    k: int = option(4, 1, 100)
    first: int = option(3, 0, 100)
    weight: float = option(1.0, 0.0, 10.0)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """See `glam.index.rerank.base.Step`."""
        descriptors = database.matrix[ranked.rows[: self.depth]]
        refined = refine(descriptors, query.descriptor, self.k, self.weight)
        first = self.weight * powers(descriptors[: self.first] @ query.descriptor, 1)
        expanded = averaged(query.descriptor[None], refined[None, : self.first], first[None])[0]
        return reordered(ranked, refined @ expanded)


def refine(descriptors: Descriptors, query: Descriptors, k: int, weight: float) -> Descriptors:
    """Each image averaged with its ``k`` nearest among the others and the query.

    Args:
        descriptors: (n, dim).
        query: (dim,).
        k: see `SuperGlobal`; all where there are fewer.
        weight: see `SuperGlobal`.

    Returns:
        (n, dim) of unit length.
    """
    others = np.concatenate([descriptors, query[None]])
    cosines = descriptors @ others.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argpartition(-cosines, min(k, len(descriptors)) - 1, axis=1)[:, :k]
    weights = weight * powers(np.take_along_axis(cosines, near, axis=1), 1)
    return averaged(descriptors, others[near], weights)
