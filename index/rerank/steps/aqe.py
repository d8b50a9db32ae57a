"""Alpha query expansion: the query and its first results ask together.

Sources: O. Chum, J. Philbin, J. Sivic, M. Isard, A. Zisserman, "Total recall", ICCV 2007. F. Radenovic, G. Tolias,
O. Chum, "Fine-tuning CNN image retrieval with no human annotation", PAMI 2019 (arXiv 1711.02512): each result weighs
its cosine to the power of alpha.
"""

from dataclasses import dataclass

import numpy as np

from glam.index.rerank.base import Database, Query, Ranked, Step, option
from glam.index.rerank.query_mean import averaged, powers
from glam.index.types import Descriptors


@dataclass(frozen=True)
class AlphaQueryExpansion(Step):
    """Searches again with the mean of the query and its first results; scores are cosines with that mean.

    The only step that brings images which were not in the list.

    Attributes:
        k: results that the mean is taken over, beside the query.
        alpha: power of its cosine that each of them weighs; 0 for equal weights.
    """

    k: int = option(2, 1, 100)
    alpha: float = option(1.0, 0.0, 10.0)

    searches_again = True

    @property
    def depth(self) -> int:
        """See `glam.index.rerank.base.Step`."""
        return self.k

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """See `glam.index.rerank.base.Step`."""
        expanded = expand(query.descriptor, database.matrix[ranked.rows[: self.k]], self.alpha)
        scores, rows = database.nearest(expanded[None], max(len(ranked), query.length), query.allowed)
        found = rows[0] >= 0
        missed = ~np.isin(ranked.rows, rows[0, found])
        return Ranked(
            np.concatenate([rows[0, found], ranked.rows[missed]]),
            np.concatenate([scores[0, found], ranked.scores[missed]]),
        )


def expand(query: Descriptors, results: Descriptors, alpha: float) -> Descriptors:
    """The mean of a query, (dim,), and its results, (k, dim), of unit length; see `AlphaQueryExpansion`."""
    mean: Descriptors = averaged(query[None], results[None], powers(results @ query, alpha)[None])[0]
    return mean
