"""Diffusion on the kNN graph: spreads similarity from the first results along the edges of the graph.

    f = alpha S f + (1 - alpha) y        y: affinities of the query to its first results, S: normalized affinities

Sources: D. Zhou, J. Weston, A. Gretton, O. Bousquet, B. Schölkopf, "Ranking on data manifolds", NIPS 2003. A. Iscen,
G. Tolias, Y. Avrithis, T. Furon, O. Chum, "Efficient diffusion on region manifolds: recovering small objects with
compact CNN representations", CVPR 2017 (arXiv 1611.05113), for affinities of mutual neighbors and a query outside the
graph. This implementation restricts the graph to the images that are re-ranked, and solves the few hundred equations
directly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.index.rerank.base import NEIGHBORS, Database, Query, Ranked, Step, option, reordered
from glam.index.rerank.query_mean import powers
from glam.index.types import Rows, rows_of_ids


@dataclass(frozen=True)
class Diffusion(Step):
    """Scores images by diffusion from the first results. Images that it does not reach score 0 and keep their order.

    Attributes:
        k: number of neighbors per image; an edge connects two images that are neighbors of each other.
        seeds: number of first results at which the diffusion starts.
        gamma: exponent of the cosine similarity in the weight of an edge or a seed.
        alpha: share of the score that an image passes on to its neighbors in each step of the diffusion.
        depth: number of images re-ranked.
    """

    k: int = option(10, 1, NEIGHBORS)
    seeds: int = option(3, 1, 100)
    gamma: float = option(3.0, 0.0, 10.0)
    alpha: float = option(0.8, 0.0, 0.999)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Re-ranks a list; see `glam.index.rerank.base.Step`."""
        rows = ranked.rows[: self.depth]
        edges = affinities(rows, database, self.k, self.gamma)
        sources = np.zeros(len(rows))
        sources[: self.seeds] = powers(database.matrix[rows[: self.seeds]] @ query.descriptor, self.gamma)
        return reordered(ranked, diffuse(edges, sources, self.alpha))


def affinities(rows: Rows, database: Database, k: int, gamma: float) -> NDArray[np.float64]:
    """The affinity matrix of images.

    Args:
        rows: (n,) int64, rows of the images.
        database: database with the kNN graph.
        k: number of neighbors per image.
        gamma: exponent of the cosine similarity.

    Returns:
        (n, n) float64, symmetric: the cosine similarity to the power of ``gamma`` if both images are among the ``k``
        neighbors of each other, otherwise 0.

    Raises:
        GlamError: the kNN graph is missing, out of date, or damaged.
    """
    neighbors = database.neighbors(rows)
    order = np.argsort(rows)
    listed = rows_of_ids(rows[order], neighbors.rows[:, :k])  # -1 for no neighbor, or one that is not in `rows`
    image, neighbor = np.nonzero(listed >= 0)
    edges: NDArray[np.float64] = np.zeros((len(rows), len(rows)))
    edges[image, order[listed[image, neighbor]]] = powers(neighbors.scores[image, neighbor], gamma)
    return np.minimum(edges, edges.T)


def diffuse(edges: NDArray[np.float64], sources: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The steady state of the diffusion.

    Args:
        edges: (n, n) float64, affinity matrix.
        sources: (n,) float64, y in the equation of the module.
        alpha: share that flows along the edges.

    Returns:
        (n,) float64, f in the equation of the module.
    """
    degrees = edges.sum(axis=1)
    scale = np.where(degrees > 0, degrees, 1) ** -0.5
    system = np.eye(len(edges)) - alpha * scale[:, None] * edges * scale
    return np.asarray(np.linalg.solve(system, (1 - alpha) * sources))
