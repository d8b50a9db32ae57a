"""Filters on ids for Milvus: which ids may be found, in as few ranges and lists as that takes.

    MilvusSearch: ids in the collection, which of them are allowed --> IdBlock --condition--> ranges and lists of ids

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
from glam.index.types import ImageIds, Mask

WORTH = 8
"""Ids in a row from which on a range takes their place."""


class FilterExpression(NamedTuple):
    """A condition as Milvus takes it: an expression, and the lists that it names."""

    expression: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class IdCondition:
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
    listed: ImageIds = field(default_factory=lambda: np.empty(0, np.int64))
    negated: bool = True

    def as_text(self) -> FilterExpression:
        """With the list in the expression, as Milvus Lite wants it."""
        return FilterExpression(self._expression("[" + ", ".join(map(str, self.listed.tolist())) + "]"), {})

    def as_template(self) -> FilterExpression:
        """With the list beside the expression, where the server need not parse it (Milvus 2.5)."""
        return FilterExpression(
            self._expression("{listed}"), {"listed": self.listed.tolist()} if len(self.listed) else {}
        )

    def _expression(self, listed: str) -> str:
        some = [f"(id >= {first} and id <= {last})" for first, last in self.ranges]
        if len(self.listed):
            some.append(f"id in {listed}")
        within = f"id >= {self.first} and id <= {self.last}"
        return f"{within} and {'not ' if self.negated else ''}({' or '.join(some)})" if some else within


@dataclass(frozen=True)
class IdBlock:
    """Neighboring ids of a collection.

    Attributes:
        image_ids: (n,), rising.
        allowed: (n,), which of them may be found.
        limits: on the ranges and ids of its condition.
    """

    image_ids: ImageIds
    allowed: Mask
    limits: MilvusLimits = DEFAULT_LIMITS.milvus

    @cached_property
    def count(self) -> int:
        """How many may be found."""
        return int(np.count_nonzero(self.allowed))

    def halves(self) -> "tuple[IdBlock, IdBlock]":
        """Both halves of its allowed ids."""
        at = int(np.flatnonzero(self.allowed)[self.count // 2])
        return replace(self, image_ids=self.image_ids[:at], allowed=self.allowed[:at]), replace(
            self, image_ids=self.image_ids[at:], allowed=self.allowed[at:]
        )

    @cached_property
    def condition(self) -> IdCondition:
        """What is true of its allowed ids, and of no other in the collection; one at least has to be allowed."""
        first, last = np.flatnonzero(self.allowed)[[0, -1]].tolist()
        image_ids, allowed = self.image_ids[first : last + 1], self.allowed[first : last + 1]
        kept, left_out = (_brief(image_ids, chosen, self.limits.ranges) for chosen in (allowed, ~allowed))
        negated = len(left_out[1]) <= len(kept[1])
        ranges, listed = left_out if negated else kept
        return IdCondition(int(image_ids[0]), int(image_ids[-1]), ranges, listed, negated)


def split_blocks(block: IdBlock, most: int | None = None) -> Iterator[IdBlock]:
    """Splits a block into blocks whose conditions each fit into a message.

    Args:
        block: with any number of ids.
        most: how many ids each may allow.
    """
    if not block.count:
        return
    if (most is not None and block.count > most) or len(block.condition.listed) > block.limits.listed_ids:
        for half in block.halves():
            yield from split_blocks(half, most)
    else:
        yield block


def _brief(image_ids: ImageIds, chosen: Mask, most: int) -> tuple[tuple[tuple[int, int], ...], ImageIds]:
    """The chosen ids as ranges, which may hold ids that are not there, and a list of the others."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    firsts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = np.argsort(-lengths, kind="stable")[:most]
    longest = np.sort(longest[lengths[longest] >= WORTH])
    rest = chosen.copy()
    ranges = []
    for first, length in zip(firsts[longest].tolist(), lengths[longest].tolist(), strict=True):
        rest[first : first + length] = False
        ranges.append((int(image_ids[first]), int(image_ids[first + length - 1])))
    return tuple(ranges), image_ids[rest]
