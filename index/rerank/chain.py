"""Chains of re-ranking steps, and their text form such as ``aqe,superglobal,geometric:depth=50``."""

from dataclasses import dataclass, replace

from glam.errors import GlamError
from glam.index.rerank.base import Database, Query, Ranked, Step, make_step
from glam.index.rerank.steps.aqe import AlphaQueryExpansion
from glam.index.rerank.steps.dba import DatabaseAugmentation
from glam.index.rerank.steps.diffusion import Diffusion
from glam.index.rerank.steps.geometric import GeometricVerification
from glam.index.rerank.steps.k_reciprocal import KReciprocal
from glam.index.rerank.steps.superglobal import SuperGlobal
from glam.index.types import Mask

STEPS: dict[str, type[Step]] = {
    "aqe": AlphaQueryExpansion,
    "dba": DatabaseAugmentation,
    "diffusion": Diffusion,
    "reciprocal": KReciprocal,
    "superglobal": SuperGlobal,
    "geometric": GeometricVerification,
}

DEFAULT = "superglobal"
"""The chain that ``default`` means, chosen on images that are in no benchmark (docs/lab/reranking.md)."""

LONGEST = 8
"""Most steps of a chain (arbitrary), which bounds the work per query."""


@dataclass(frozen=True)
class Chain:
    """Re-ranking steps that are applied one after another.

    Attributes:
        steps: the steps, at least one.
    """

    steps: tuple[Step, ...]

    @property
    def depth(self) -> int:
        """The largest `Step.depth` of the steps."""
        return max(step.depth for step in self.steps)

    @property
    def needs_local_features(self) -> bool:
        """Whether a step needs the local features of the query."""
        return any(getattr(step, "needs_local_features", False) for step in self.steps)  # see `Step`

    def __str__(self) -> str:
        """The text form, with every option."""
        return ",".join(_written(step) for step in self.steps)

    def search(self, query: Query, database: Database, k: int, accepted: Mask | None = None) -> Ranked:
        """Searches a database, re-ranks the results, and returns the best.

        Args:
            query: the query, with local features if a step compares them.
            database: the database to search.
            k: most results.
            accepted: (n,) mask of the rows of the database that may be returned; the other rows still take part in the
                re-ranking. None for all rows.

        Returns:
            Up to ``k`` images, in the order of the last step.

        Raises:
            GlamError: the query or the database lacks data that a step needs.
        """
        first, length = self.steps[0], max(k, self.depth)
        while True:  # repeats only if too few rows of the list are accepted
            enough = first.depth if getattr(first, "searches_again", False) else length  # see `Step`
            scores, rows = database.nearest(query.descriptor[None], enough, query.allowed)
            found = rows[0] >= 0
            ranked, query = Ranked(rows[0, found], scores[0, found]), replace(query, length=length)
            for step in self.steps if len(ranked) else ():
                ranked = step(query, ranked, database)
            if accepted is not None:
                is_accepted = accepted[ranked.rows]
                ranked = Ranked(ranked.rows[is_accepted], ranked.scores[is_accepted])
            if len(ranked) >= k or accepted is None or length >= len(database.matrix):
                return Ranked(ranked.rows[:k], ranked.scores[:k])
            length *= 4


def parse_chain(text: str) -> Chain:
    """Parses the text form of a chain.

    Args:
        text: names of steps separated by commas, each followed by its options as ``:name=number``, for example
            ``aqe,geometric:depth=50``; or ``default``.

    Raises:
        GlamError: a step or an option does not exist, a value is out of bounds, or there are too many steps.
    """
    parts = (DEFAULT if text.strip() == "default" else text).split(",")
    if len(parts) > LONGEST:
        raise GlamError(f"The re-ranking chain has {len(parts)} steps. Give at most {LONGEST}.")
    return Chain(tuple(_step(part) for part in parts))


def _written(step: Step) -> str:
    name = next(name for name, kind in STEPS.items() if isinstance(step, kind))
    return name + "".join(f":{key}={value}" for key, value in vars(step).items())


def _step(text: str) -> Step:
    name, *options = (part.strip() for part in text.split(":"))
    if name not in STEPS:
        raise GlamError(
            f"There is no re-ranking step {name!r}. Choose from {', '.join(STEPS)}, or give default by itself."
        )
    given: dict[str, str] = {}
    for key, equals, value in (option.partition("=") for option in options):
        if not equals:
            raise GlamError(f"{text.strip()}: {key!r} is not an option. Write options as name=number.")
        if key in given:
            raise GlamError(f"{text.strip()}: the option {key} is given twice. Give it once.")
        given[key] = value
    return make_step(STEPS[name], name, given)
