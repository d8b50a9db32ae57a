"""Diffusion on the k-nearest-neighbor graph: similarity flows from the query's first results along the graph.

    f = alpha S f + (1 - alpha) y        y: what the query gives its first results, S: the normalized affinities

Sources: D. Zhou, J. Weston, A. Gretton, O. Bousquet, B. Schölkopf, "Ranking on data manifolds", NIPS 2003. A. Iscen,
G. Tolias, Y. Avrithis, T. Furon, O. Chum, "Efficient diffusion on region manifolds: recovering small objects with
compact CNN representations", CVPR 2017 (arXiv 1611.05113): affinities of mutual neighbors, and the query outside the
graph. Here the graph is cut down to the images looked at, and the few hundred equations are solved directly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glam.index.rerank.base import NEIGHBORS, Database, Query, Ranked, Step, option, reordered
from glam.index.rerank.query_mean import powers
from glam.index.types import Rows, rows_of_ids


@dataclass(frozen=True)
class Diffusion(Step):
    """Scores are what has flowed to an image; 0 where nothing did, and those keep their order.

    Attributes:
        k: neighbors of an image; an edge joins two images that are among each other's.
        seeds: results that the query flows into.
        gamma: power of the cosine that an edge, or the query's hold on a seed, is worth.
        alpha: share that flows on at each step.
        depth: images looked at.
    """

    k: int = option(10, 1, NEIGHBORS)
    seeds: int = option(3, 1, 100)
    gamma: float = option(3.0, 0.0, 10.0)
    alpha: float = option(0.8, 0.0, 0.999)
    depth: int = option(400, 1, 1000)

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """See `glam.index.rerank.base.Step`."""
        looked_at = ranked.rows[: self.depth]
        edges = affinities(looked_at, database, self.k, self.gamma)
        given = np.zeros(len(looked_at))
        given[: self.seeds] = powers(database.matrix[looked_at[: self.seeds]] @ query.descriptor, self.gamma)
        return reordered(ranked, flow(edges, given, self.alpha))


def affinities(rows: Rows, database: Database, k: int, gamma: float) -> NDArray[np.float64]:
    """Of the images in (n,) rows: their cosine to the power of ``gamma`` where both are among the ``k`` nearest of
    the other, and else 0; (n, n), symmetric."""
    neighbors = database.neighbors(rows)
    order = np.argsort(rows)
    listed = rows_of_ids(rows[order], neighbors.rows[:, :k])  # -1: not among these images, or no neighbor
    image, neighbor = np.nonzero(listed >= 0)
    edges: NDArray[np.float64] = np.zeros((len(rows), len(rows)))
    edges[image, order[listed[image, neighbor]]] = powers(neighbors.scores[image, neighbor], gamma)
    return np.minimum(edges, edges.T)


def flow(edges: NDArray[np.float64], given: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The rest state of the diffusion, (n,), over (n, n) edges from what is given, (n,), at each step."""
    degrees = edges.sum(axis=1)
    scale = np.where(degrees > 0, degrees, 1) ** -0.5
    system = np.eye(len(edges)) - alpha * scale[:, None] * edges * scale
    return np.asarray(np.linalg.solve(system, (1 - alpha) * given))
