"""k-reciprocal re-ranking: compares the query and an image by the overlap of their mutual nearest neighbors.

Source: Z. Zhong, L. Zheng, D. Cao, S. Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017
(arXiv 1701.08398). Unlike the paper, neighborhoods contain only the query and the images in the list. They count as k
nearest neighbors of an image if they are at least as similar to it as its k-th neighbor in the kNN graph.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.index.rerank.base import NEIGHBORS, Database, Query, Ranked, Step, option, reordered
from glam.index.types import Scores

Sets = NDArray[np.bool_]
"""(n, n) booleans; row i is the set of images that belongs to image i."""

ROUNDING = 1e-6
"""Largest rounding difference between two computations of a cosine similarity in float32."""


@dataclass(frozen=True)
class KReciprocal(Step):
    """Scores images by a weighted mean of the overlap of neighborhoods, in [0, 1], and the cosine similarity.

    Attributes:
        k: number of nearest neighbors from which the reciprocal ones are taken.
        averaged: number of neighbors whose neighborhoods are averaged with that of an image; 0 for no averaging.
        share: weight of the cosine similarity in the score.
        depth: number of images re-ranked.
    """

    k: int = option(16, 2, NEIGHBORS)
    averaged: int = option(2, 0, NEIGHBORS)
    share: float = option(0.5, 0.0, 1.0)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Re-ranks a list; see `glam.index.rerank.base.Step`."""
        rows = ranked.rows[: self.depth]
        descriptors = np.concatenate([query.descriptor[None], database.matrix[rows]])
        cosines = descriptors @ descriptors.T  # row and column 0 belong to the query
        known = database.neighbors(rows).scores
        weights = encode(reciprocal(cosines, known, self.k), reciprocal(cosines, known, self.k // 2), cosines)
        if self.averaged:
            near = nearest(cosines, known, self.averaged)
            weights = near @ weights / near.sum(axis=1, keepdims=True)
        overlap = overlaps(weights[0], weights[1:])
        return reordered(ranked, (1 - self.share) * overlap + self.share * cosines[0, 1:])


def nearest(cosines: Scores, known: Scores, k: int) -> Sets:
    """The nearest neighbors of the query and of each image.

    Args:
        cosines: (n, n) cosine similarities among the query, which is number 0, and the n - 1 images of the list.
        known: (n - 1, `NEIGHBORS`) cosine similarities of the images with their neighbors in the kNN graph, in
            descending order.
        k: number of neighbors, at least 1.

    Returns:
        (n, n): row i is the set of those that are at least as similar to i as its k-th neighbor, with i itself.
    """
    of_query = np.sort(cosines[0, 1:])[-min(k, len(known)) :][:1]
    least = np.concatenate([of_query, known[:, k - 1]])
    sets: Sets = cosines >= least[:, None] - ROUNDING
    np.fill_diagonal(sets, True)
    return sets


def reciprocal(cosines: Scores, known: Scores, k: int) -> Sets:
    """The k-reciprocal neighbors: pairs that are among the nearest neighbors of each other.

    Args:
        cosines: (n, n) cosine similarities; see `nearest`.
        known: (n - 1, `NEIGHBORS`) cosine similarities; see `nearest`.
        k: number of neighbors, at least 1.

    Returns:
        (n, n), symmetric: row i is the set of the reciprocal neighbors of i, with i itself.
    """
    near = nearest(cosines, known, k)
    return near & near.T


def encode(own: Sets, half: Sets, cosines: Scores) -> NDArray[np.float32]:
    """Expands the neighborhoods and encodes them as vectors of weights.

    For each member, its (k / 2)-reciprocal neighbors are added to the neighborhood if at least two thirds of them
    already belong to it.

    Args:
        own: (n, n), k-reciprocal neighbors of each image.
        half: (n, n), (k / 2)-reciprocal neighbors of each image.
        cosines: (n, n) cosine similarities.

    Returns:
        (n, n) float32: row i holds the weights of the images in the neighborhood of i, which add up to 1.
    """
    members, halves = own.astype(np.float32), half.astype(np.float32)
    joining = own & (members @ halves.T >= 2 / 3 * halves.sum(axis=1))
    expanded = own | (joining.astype(np.float32) @ halves > 0)
    weights = np.where(expanded, np.exp(2 * cosines - 2), np.float32(0))  # squared distances are 2 - 2 cosines
    shares: NDArray[np.float32] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def overlaps(query: NDArray[np.float32], images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Jaccard similarities of neighborhoods.

    Args:
        query: (n,) float32, neighborhood of the query; the weights add up to 1.
        images: (m, n) float32, neighborhoods of images; the weights of each add up to 1.

    Returns:
        (m,) float32 in [0, 1].
    """
    common = np.minimum(query, images).sum(axis=1)
    similarity: NDArray[np.float32] = common / (2 - common)
    return similarity
