"""k-reciprocal reranking: images are alike whose neighborhoods are, and neighbors are those that are each other's.

Source: Z. Zhong, L. Zheng, D. Cao, S. Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017
(arXiv 1701.08398). What differs: the graph gives only how near the k-th neighbor of an image is; whatever in the list
is as near is among its k nearest, the query too, which is outside the graph. What is not in the list counts nowhere.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.index.rerank.base import NEIGHBORS, Database, Query, Ranked, Step, option, reordered
from glam.index.types import Scores

Sets = NDArray[np.bool_]
"""(n, n): row i says which of n images are in the set of image i."""

ROUNDING = 1e-6
"""What two computations of one cosine may differ by."""


@dataclass(frozen=True)
class KReciprocal(Step):
    """Scores are a weighted mean of the overlap of neighborhoods, in [0, 1], and the cosine.

    Attributes:
        k: neighbors that may be reciprocal.
        averaged: an image's neighborhood is averaged with those of so many neighbors; 0 for its own alone.
        share: of the cosine in the score.
        depth: images looked at.
    """

    k: int = option(16, 2, NEIGHBORS)
    averaged: int = option(2, 0, NEIGHBORS)
    share: float = option(0.5, 0.0, 1.0)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """See `glam.index.rerank.base.Step`."""
        looked_at = ranked.rows[: self.depth]
        descriptors = np.concatenate([query.descriptor[None], database.matrix[looked_at]])
        cosines = descriptors @ descriptors.T  # from here on the query is number 0
        known = database.neighbors(looked_at).scores
        weights = encode(reciprocal(cosines, known, self.k), reciprocal(cosines, known, self.k // 2), cosines)
        if self.averaged:
            near = nearest(cosines, known, self.averaged)
            weights = near @ weights / near.sum(axis=1, keepdims=True)
        alike = overlaps(weights[0], weights[1:])
        return reordered(ranked, (1 - self.share) * alike + self.share * cosines[0, 1:])


def nearest(cosines: Scores, known: Scores, k: int) -> Sets:
    """The images that are as near to an image as its k-th neighbor, itself among them.

    Args:
        cosines: (n, n) of the query, number 0, and the images of the list.
        known: (n - 1, `NEIGHBORS`), of those images with their neighbors in the graph, falling.
        k: at least 1.
    """
    of_query = np.sort(cosines[0, 1:])[-min(k, len(known)) :][:1]
    least = np.concatenate([of_query, known[:, k - 1]])
    sets: Sets = cosines >= least[:, None] - ROUNDING
    np.fill_diagonal(sets, True)
    return sets


def reciprocal(cosines: Scores, known: Scores, k: int) -> Sets:
    """The k-reciprocal neighbors of each image, itself among them; see `nearest`."""
    near = nearest(cosines, known, k)
    return near & near.T


def encode(own: Sets, half: Sets, cosines: Scores) -> NDArray[np.float32]:
    """Neighborhoods as vectors.

    Args:
        own: k-reciprocal neighbors of each image.
        half: its k / 2-reciprocal ones; of a neighbor they join those of the image where two thirds of them are there.
        cosines: (n, n).

    Returns:
        (n, n), row i: the weights of the images in the neighborhood of i; they add up to 1.
    """
    members, halves = own.astype(np.float32), half.astype(np.float32)
    joining = own & (members @ halves.T >= 2 / 3 * halves.sum(axis=1))
    whole = own | (joining.astype(np.float32) @ halves > 0)
    weights = np.where(whole, np.exp(2 * cosines - 2), np.float32(0))  # squared distances are 2 - 2 cosines
    shares: NDArray[np.float32] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def overlaps(query: NDArray[np.float32], images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Jaccard similarity of a neighborhood, (n,), with others, (m, n), each adding up to 1; (m,)."""
    common = np.minimum(query, images).sum(axis=1)
    similarity: NDArray[np.float32] = common / (2 - common)
    return similarity
