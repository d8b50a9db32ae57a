"""Which ids may be found, said in as few numbers as that takes.

    Searched: ids in the collection, which of them are allowed --> Part --condition--> ranges, and ids that are listed

Images that belong together lie together in an index, as its folder is read in order: so a filter is often a few ranges
of ids, however many images it keeps. Where it is not, what it keeps or what it leaves out is listed, whichever is
less; where that is still too much for one message, the ids are halved and each half is searched by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from glam.index.limits import DEFAULT_LIMITS, MilvusLimits
from glam.index.types import Mask, Numbers

WORTH = 8
"""Ids in a row from which on a range takes their place."""


class Filter(NamedTuple):
    """A condition as Milvus takes it: an expression, and the lists that it names."""

    expression: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """On an id: that it lies from ``first`` to ``last``, and is in a range or listed; or is not, if ``negated``.

    Attributes:
        first, last: both included.
        ranges: (first, last) of each, both included.
        listed: (n,) ids.
        negated: whether those of the ranges and the list are left out.
    """

    first: int
    last: int
    ranges: tuple[tuple[int, int], ...] = ()
    listed: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    negated: bool = True

    def as_text(self) -> Filter:
        """With the list in the expression, as Milvus Lite wants it."""
        return Filter(self._expression("[" + ", ".join(map(str, self.listed.tolist())) + "]"), {})

    def as_template(self) -> Filter:
        """With the list beside the expression, where the server need not parse it (Milvus 2.5)."""
        return Filter(self._expression("{listed}"), {"listed": self.listed.tolist()} if len(self.listed) else {})

    def _expression(self, listed: str) -> str:
        some = [f"(id >= {first} and id <= {last})" for first, last in self.ranges]
        if len(self.listed):
            some.append(f"id in {listed}")
        within = f"id >= {self.first} and id <= {self.last}"
        return f"{within} and {'not ' if self.negated else ''}({' or '.join(some)})" if some else within


@dataclass(frozen=True)
class Part:
    """Neighbouring ids of a collection.

    Attributes:
        ids: (n,), rising.
        allowed: (n,), which of them may be found.
        limits: on the ranges and ids of its condition.
    """

    ids: Numbers
    allowed: Mask
    limits: MilvusLimits = DEFAULT_LIMITS.milvus

    @cached_property
    def count(self) -> int:
        """How many may be found."""
        return int(np.count_nonzero(self.allowed))

    def halves(self) -> "tuple[Part, Part]":
        """Both halves of its allowed ids."""
        at = int(np.flatnonzero(self.allowed)[self.count // 2])
        return replace(self, ids=self.ids[:at], allowed=self.allowed[:at]), replace(
            self, ids=self.ids[at:], allowed=self.allowed[at:]
        )

    @cached_property
    def condition(self) -> Condition:
        """What is true of its allowed ids, and of no other in the collection; one at least has to be allowed."""
        first, last = np.flatnonzero(self.allowed)[[0, -1]].tolist()
        ids, allowed = self.ids[first : last + 1], self.allowed[first : last + 1]
        kept, left_out = (_brief(ids, chosen, self.limits.ranges) for chosen in (allowed, ~allowed))
        negated = len(left_out[1]) <= len(kept[1])
        ranges, listed = left_out if negated else kept
        return Condition(int(ids[0]), int(ids[-1]), ranges, listed, negated)


def parts(part: Part, most: int | None = None) -> Iterator[Part]:
    """Cuts a part into those of which each has a condition that fits into a message.

    Args:
        part: with any number of ids.
        most: how many of each may be allowed.
    """
    if not part.count:
        return
    if (most is not None and part.count > most) or len(part.condition.listed) > part.limits.listed_ids:
        for half in part.halves():
            yield from parts(half, most)
    else:
        yield part


def _brief(ids: Numbers, chosen: Mask, most: int) -> tuple[tuple[tuple[int, int], ...], Numbers]:
    """The chosen ids as ranges, which may hold ids that are not there, and a list of the others."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    firsts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = np.argsort(-lengths, kind="stable")[:most]
    longest = np.sort(longest[lengths[longest] >= WORTH])
    rest = chosen.copy()
    ranges = []
    for first, length in zip(firsts[longest].tolist(), lengths[longest].tolist(), strict=True):
        rest[first : first + length] = False
        ranges.append((int(ids[first]), int(ids[first + length - 1])))
    return tuple(ranges), ids[rest]
