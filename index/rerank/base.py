"""Interfaces of re-ranking: queries, ranked lists, the database, and the steps that re-order a list.

    ranked list of one query --step--> ranked list --step--> ranked list

A step sees only the query, its list, and a `Database`. It never sees landmarks, which are the ground truth of an
evaluation.
"""

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index.ann import DescriptorSource
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.types import Descriptors, Mask, Rows, Scores

Number = TypeVar("Number", int, float)
Made = TypeVar("Made")

NEIGHBORS = 32
"""Neighbors per image in the kNN graph (docs/rerank.md): 256 bytes per image. No step can use more."""


@dataclass(frozen=True)
class Ranked:
    """The ranked list of a query.

    Attributes:
        rows: (n,) int64, distinct rows of images in the database, best first.
        scores: (n,) float32, cosine similarities after a plain search. A step replaces the scores of the images that it
            re-orders, in descending order; the scores of the images after these stay as they were and cannot be
            compared with the new ones.
    """

    rows: Rows
    scores: Scores

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Query:
    """A query of a search.

    Attributes:
        descriptor: (dim,) float32 of unit length.
        features: returns the local features of the query's image when they are needed; None if there is no image.
        length: fewest images that a step with `Step.searches_again` returns, if the database has as many.
            `Chain.search` sets it.
        allowed: mask of the rows that may be results, for `Database.nearest`; None for all rows. `Index.search` sets
            it.
    """

    descriptor: Descriptors
    features: Callable[[], LocalFeatures] | None = None
    length: int = 0
    allowed: Mask | None = None

    def local_features(self) -> LocalFeatures:
        """The local features of the query's image.

        Raises:
            GlamError: the query has no image.
        """
        if self.features is None:
            raise GlamError(
                "Geometric re-ranking compares local features, but this query is only a descriptor. Search with an "
                "image."
            )
        return self.features()


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbors of n images, which are a part of the kNN graph.

    Attributes:
        rows: (n, `NEIGHBORS`) int64, rows of the neighbors of each image, best first, without the image itself; -1
            where there are fewer.
        scores: (n, `NEIGHBORS`) float32, cosine similarities with the neighbors; -inf where there are fewer.
    """

    rows: Rows
    scores: Scores


class Database(Protocol):
    """The database that a step can use, with images identified by rows. `glam.index.Index` implements it.

    A step adds images to a list only from `nearest`, to which it passes the filter `Query.allowed`. Neighbors may
    include images that the filter excludes: a step may use them for scores, but never adds them to a list.
    """

    @property
    def matrix(self) -> DescriptorSource:
        """The descriptors: ``matrix[rows]`` is (n, dim) float32, with zeros for rows that are no longer stored."""

    def nearest(self, queries: Descriptors, k: int, allowed: Mask | None) -> tuple[Scores, Rows]:
        """Finds the nearest images of each query.

        Args:
            queries: (q, dim) float32 of unit length.
            k: most results per query.
            allowed: mask of the rows that may be results, from `Query.allowed`; None for all rows.

        Returns:
            Cosine similarities (q, m), best first, and rows (q, m), with m <= k; -inf and -1 where a query has fewer
            results.
        """

    def neighbors(self, rows: Rows) -> Neighbors:
        """The nearest neighbors of images, from the kNN graph.

        Args:
            rows: (n,) int64, rows of the images.

        Raises:
            GlamError: the kNN graph is missing, out of date, or damaged.
        """

    def local_features_in_row(self, row: int) -> LocalFeatures | None:
        """The local features of an image.

        Args:
            row: row of the image.

        Returns:
            Its local features; None if they are not stored and its file cannot be read.

        Raises:
            GlamError: the database has neither local features nor image files.
        """


class Step(Protocol):
    """A re-ranking method. It is deterministic, and any number of threads may call it.

    Subclass it to inherit the defaults of `searches_again` and `needs_local_features`. `Chain` also accepts any object
    with ``depth`` and ``__call__``, for which both are False.
    """

    @property
    def depth(self) -> int:
        """Number of images at the top of the list that the step re-orders. The list should be at least as long."""

    @property
    def searches_again(self) -> bool:
        """Whether the step searches the database itself for a list of `Query.length` images.

        A chain that begins with such a step starts with a list of only ``depth`` images.
        """
        return False

    @property
    def needs_local_features(self) -> bool:
        """Whether the step calls `Query.local_features`."""
        return False

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """Re-ranks a list.

        Args:
            query: the query of the list.
            ranked: the list, best first.
            database: the database that was searched.

        Returns:
            A list of the same images, and possibly more. Images beyond ``depth`` follow in their old order.

        Raises:
            GlamError: the query or the database lacks data that the step needs.
        """


def reordered(ranked: Ranked, scores: NDArray[np.floating]) -> Ranked:
    """Sorts the first images of a list by descending new scores.

    Args:
        ranked: list of at least d images.
        scores: (d,) new scores of the first d images. Images with equal scores keep their order.

    Returns:
        The list with the first d images sorted and the others unchanged after them.
    """
    order = np.argsort(-scores, kind="stable")
    best = np.asarray(scores[order], dtype=np.float32)
    return Ranked(
        np.concatenate([ranked.rows[order], ranked.rows[len(scores) :]]),
        np.concatenate([best, ranked.scores[len(scores) :]]),
    )


def option(default: Number, least: Number, most: Number) -> Number:
    """A dataclass field for an option of a step.

    Args:
        default: value if the option is not given.
        least: smallest allowed value.
        most: largest allowed value, which bounds the work per query.
    """
    number: Number = field(default=default, metadata={"least": least, "most": most})
    return number


def make_step(kind: type[Made], name: str, options: dict[str, str]) -> Made:
    """Creates a step from the texts of its options.

    Args:
        kind: dataclass of the step, whose fields were made by `option`.
        name: name of the step, for error messages.
        options: text of each given option by its name; the others have their defaults.

    Raises:
        GlamError: an option does not exist, or its text is not a number within its bounds.
    """
    known = {known.name: known for known in fields(kind)}  # type: ignore[arg-type]
    for unknown in options.keys() - known.keys():
        choices = f"Choose from {', '.join(known)}." if known else "Leave it out."
        raise GlamError(f"The step {name} has no option {unknown!r}. {choices}")
    return kind(**{key: _number(known[key], f"{name}:{key}", text) for key, text in options.items()})


def _number(known: "Field[Any]", name: str, text: str) -> int | float:
    least, most = known.metadata["least"], known.metadata["most"]
    is_integer = isinstance(known.default, int)
    try:
        number = int(text) if is_integer else float(text)
        if least <= number <= most:
            return number
    except ValueError:
        pass
    kind = "an integer" if is_integer else "a number"
    raise GlamError(f"{name}={text} is not allowed. Give {kind} from {least} to {most}.")
