"""What reranking is made of: a ranked list goes in, a better one comes out, and the database is asked on the way.

    ranked list of one query --step--> ranked list --step--> ranked list

A step sees a query, its list and a `Database`. It never sees what an image shows: what is right, `glam.eval` knows.
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
"""Of each image, that the k-nearest-neighbor graph holds: no step looks at more."""


@dataclass(frozen=True)
class Ranked:
    """A ranked list of one query.

    Attributes:
        rows: (n,) int64, rows of the images in the database, best first, none twice.
        scores: (n,) float32; of plain search cosines, after a step what the step says. Those of the images that it
            looked at fall along the list. Those behind are what they were, and cannot be compared with these.
    """

    rows: Rows
    scores: Scores

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Query:
    """What is asked.

    Attributes:
        descriptor: (dim,) float32 of unit length.
        features: gives the local features of the query's image, made when first asked for; None where there is only a
            descriptor.
        length: shortest list that a step with `Step.searches_again` may return, if the database has as many images.
            `Chain.search` sets it.
        allowed: mask of the rows that may be results, for `Database.nearest`; None for all. `Index.search` sets it.
    """

    descriptor: Descriptors
    features: Callable[[], LocalFeatures] | None = None
    length: int = 0
    allowed: Mask | None = None

    def local_features(self) -> LocalFeatures:
        """The local features.

        Raises:
            GlamError: the query came without an image.
        """
        if self.features is None:
            raise GlamError("the query is a descriptor; to compare it point by point, its image is needed")
        return self.features()


@dataclass(frozen=True)
class Neighbors:
    """The nearest images of some images, part of the k-nearest-neighbor graph.

    Attributes:
        rows: (n, `NEIGHBORS`) int64, best first, none of them the image itself; -1 where there are fewer.
        scores: (n, `NEIGHBORS`) float32 cosines; -inf there.
    """

    rows: Rows
    scores: Scores


class Database(Protocol):
    """The images that are searched, by row: all that a step may know of them. `glam.index.Index` is one.

    Results come from `nearest` alone; a step passes it `Query.allowed`, which holds the filter. Neighbors may be images
    that the filter leaves out: they tell something, but no step puts one into a list.
    """

    @property
    def matrix(self) -> DescriptorSource:
        """The descriptors by row, ``matrix[rows]`` is (n, dim); zeros for one that is no longer stored."""

    def nearest(self, queries: Descriptors, k: int, allowed: Mask | None) -> tuple[Scores, Rows]:
        """The nearest images of each query.

        Args:
            queries: (q, dim) float32 of unit length.
            k: most results per query.
            allowed: `Query.allowed`.

        Returns:
            Cosines (q, m), best first, and rows (q, m), m <= k; -inf and -1 where a query has fewer.
        """

    def neighbors(self, rows: Rows) -> Neighbors:
        """The stored neighbors of the images in (n,) rows.

        Raises:
            GlamError: no graph is stored, or not one of the images there are now; the message says what makes one.
        """

    def local_features_in_row(self, row: int) -> LocalFeatures | None:
        """The local features of the image in a row; None if they are not kept and it cannot be read any more.

        Raises:
            GlamError: this database has neither local features nor images.
        """


class Step(Protocol):
    """One re-ranking method. Any number of threads may call it; the same arguments always give the same list.

    Subclass it to inherit the defaults of `searches_again` and `needs_local_features`. At run time, `Chain` also takes
    an object with just ``depth`` and ``__call__``, for which both are False.
    """

    @property
    def depth(self) -> int:
        """How many images it looks at, from the top of the list: a list should be as long to begin with."""

    @property
    def searches_again(self) -> bool:
        """Whether it searches the database for a list of `Query.length` images, so that ``depth`` images are enough to
        begin with. Counts only for the first step of a chain."""
        return False

    @property
    def needs_local_features(self) -> bool:
        """Whether it calls `Query.local_features`."""
        return False

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        """A list of the same images, and possibly more. Those that it does not look at follow in their order.

        Raises:
            GlamError: the query or the database lacks what it needs.
        """


def reordered(ranked: Ranked, scores: NDArray[np.floating]) -> Ranked:
    """The first ``len(scores)`` images by falling score, equal ones in the order they had; the others behind them.

    Args:
        ranked: the list.
        scores: (d,) of its first images.
    """
    order = np.argsort(-scores, kind="stable")
    best = np.asarray(scores[order], dtype=np.float32)
    return Ranked(
        np.concatenate([ranked.rows[order], ranked.rows[len(scores) :]]),
        np.concatenate([best, ranked.scores[len(scores) :]]),
    )


def option(default: Number, least: Number, most: Number) -> Number:
    """A field of a step's dataclass: a number from ``least`` to ``most``, which bound its work."""
    number: Number = field(default=default, metadata={"least": least, "most": most})
    return number


def make_step(kind: type[Made], name: str, options: dict[str, str]) -> Made:
    """A step with these options, the others at their defaults.

    Args:
        kind: its dataclass.
        name: what a message calls it.
        options: texts by the name of the option.

    Raises:
        GlamError: there is no such option, or its text is not a number within its bounds.
    """
    known = {known.name: known for known in fields(kind)}  # type: ignore[arg-type]
    for unknown in options.keys() - known.keys():
        raise GlamError(f"{name} has no option {unknown!r}, only {', '.join(known) or 'none'}")
    return kind(**{key: _number(known[key], f"{name}:{key}", text) for key, text in options.items()})


def _number(known: "Field[Any]", name: str, text: str) -> int | float:
    least, most = known.metadata["least"], known.metadata["most"]
    whole = isinstance(known.default, int)
    try:
        number = int(text) if whole else float(text)
        if least <= number <= most:
            return number
    except ValueError:
        pass
    raise GlamError(f"{name}={text}: it takes a {'whole ' if whole else ''}number from {least} to {most}")
