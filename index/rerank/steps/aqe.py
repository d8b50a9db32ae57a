"""Alpha query expansion: searches again with the weighted mean of the query and its first results.

Sources: O. Chum, J. Philbin, J. Sivic, M. Isard, A. Zisserman, "Total recall", ICCV 2007. F. Radenovic, G. Tolias,
O. Chum, "Fine-tuning CNN image retrieval with no human annotation", PAMI 2019 (arXiv 1711.02512), for the weight of a
result, which is its cosine to the power of alpha.
"""

from dataclasses import dataclass

import numpy as np

from glam.index.rerank.base import Database, Query, Ranked, Step, option
from glam.index.rerank.query_mean import averaged, powers
from glam.index.types import Descriptors


@dataclass(frozen=True)
class AlphaQueryExpansion(Step):
    """Searches again with the mean of the query and its first results. Scores are cosine similarities with that mean.

    It is the only step that adds images to the list.

    Attributes:
        k: number of results that are averaged with the query.
        alpha: exponent of the cosine similarity in the weight of a result; 0 gives equal weights.
    """

    k: int = option(2, 1, 100)
    alpha: float = option(1.0, 0.0, 10.0)

    searches_again = True

    @property
    def depth(self) -> int:
        """The number of results that the mean needs."""
        return self.k

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Searches again; see `glam.index.rerank.base.Step`."""
        expanded = expand(query.descriptor, database.matrix[ranked.rows[: self.k]], self.alpha)
        scores, rows = database.nearest(expanded[None], max(len(ranked), query.length), query.allowed)
        found = rows[0] >= 0
        missed = ~np.isin(ranked.rows, rows[0, found])
        return Ranked(
            np.concatenate([rows[0, found], ranked.rows[missed]]),
            np.concatenate([scores[0, found], ranked.scores[missed]]),
        )


def expand(query: Descriptors, results: Descriptors, alpha: float) -> Descriptors:
    """The weighted mean of a query and its results.

    Args:
        query: (dim,) float32 of unit length.
        results: (k, dim) float32 of unit length.
        alpha: exponent of the cosine similarity in the weight of a result.

    Returns:
        (dim,) float32 of unit length.
    """
    mean: Descriptors = averaged(query[None], results[None], powers(results @ query, alpha)[None])[0]
    return mean
