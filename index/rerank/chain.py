"""Chains of steps, and how they are written: ``aqe,superglobal,geometric:depth=50``."""

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
"""What ``default`` stands for: chosen on photographs that no benchmark holds (docs/lab/reranking.md)."""

LONGEST = 8
"""Steps of a chain."""


@dataclass(frozen=True)
class Chain:
    """Steps in a row.

    Attributes:
        steps: at least one.
    """

    steps: tuple[Step, ...]

    @property
    def depth(self) -> int:
        """Of the step that looks furthest."""
        return max(step.depth for step in self.steps)

    @property
    def needs_local_features(self) -> bool:
        """Whether a step needs the local features of the query."""
        return any(getattr(step, "needs_local_features", False) for step in self.steps)  # see `Step`

    def __str__(self) -> str:
        """As it is written, with every option."""
        return ",".join(_written(step) for step in self.steps)

    def search(self, query: Query, database: Database, k: int, accepted: Mask | None = None) -> Ranked:
        """Searches, re-ranks the results, and returns the best.

        Args:
            query: its descriptor (dim,), and its local features if a step compares them.
            database: searched.
            k: most results.
            accepted: (n,), which rows of the database may be returned; the others still take part in the re-ranking.
                None for all.

        Raises:
            GlamError: the query or the database lacks what a step needs.
        """
        first, length = self.steps[0], max(k, self.depth)
        while True:  # more than once only where too few rows of the list are accepted
            enough = first.depth if getattr(first, "searches_again", False) else length  # see `Step`
            scores, rows = database.nearest(query.descriptor[None], enough, query.allowed)
            found = rows[0] >= 0
            ranked, asked = Ranked(rows[0, found], scores[0, found]), replace(query, length=length)
            for step in self.steps if len(ranked) else ():
                ranked = step(asked, ranked, database)
            if accepted is not None:
                kept = accepted[ranked.rows]
                ranked = Ranked(ranked.rows[kept], ranked.scores[kept])
            if len(ranked) >= k or accepted is None or length >= len(database.matrix):
                return Ranked(ranked.rows[:k], ranked.scores[:k])
            length *= 4


def parse_chain(text: str) -> Chain:
    """A chain from its names, with commas between; an option of a step follows it as ``:name=number``.

    Args:
        text: as ``aqe,geometric:depth=50``; or ``default``.

    Raises:
        GlamError: a name or an option is not known, or there are too many steps.
    """
    written = (DEFAULT if text.strip() == "default" else text).split(",")
    if len(written) > LONGEST:
        raise GlamError(f"a chain has at most {LONGEST} steps, this one has {len(written)}")
    return Chain(tuple(_step(part) for part in written))


def _written(step: Step) -> str:
    name = next(name for name, kind in STEPS.items() if isinstance(step, kind))
    return name + "".join(f":{key}={value}" for key, value in vars(step).items())


def _step(written: str) -> Step:
    name, *options = (part.strip() for part in written.split(":"))
    if name not in STEPS:
        raise GlamError(f"there is no reranking step {name!r}; there are {', '.join(STEPS)}, or alone: default")
    given: dict[str, str] = {}
    for key, equals, value in (option.partition("=") for option in options):
        if not equals:
            raise GlamError(f"{written.strip()}: an option is written as name=number, not {key!r}")
        if key in given:
            raise GlamError(f"{written.strip()}: the option {key} stands there twice")
        given[key] = value
    return make_step(STEPS[name], name, given)
