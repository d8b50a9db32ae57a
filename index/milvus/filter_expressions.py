"""Compact Milvus filter expressions that restrict a search to given image ids.

    MilvusSearch: ids in the Milvus collection, and a mask --> IdBlock --condition--> id ranges and a list of ids

A folder is indexed in order, so the images of a landmark or a sub-folder have consecutive ids, and a few id ranges
often express a filter. The remaining ids are listed: either the allowed or the excluded ones, whichever are fewer. If
the list is too long for a message, the ids are split in half, and each half is searched separately.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from glam.index.limits import DEFAULT_LIMITS, MilvusLimits
from glam.index.types import ImageIds, Mask

WORTH = 8
"""Fewest consecutive ids that are written as a range (arbitrary)."""


class FilterExpression(NamedTuple):
    """A condition in the syntax of Milvus.

    Attributes:
        expression: filter expression.
        parameters: lists that the expression refers to, by name.
    """

    expression: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class IdCondition:
    """A condition on ids: from ``first`` to ``last``, and in one of the ranges or the list (or in none if negated).

    Attributes:
        first: lowest id, inclusive.
        last: highest id, inclusive.
        ranges: first and last id of each range, both inclusive.
        listed: (n,) int64, ids in the list.
        negated: whether the ranges and the list contain the excluded ids instead of the allowed ones.
    """

    first: int
    last: int
    ranges: tuple[tuple[int, int], ...] = ()
    listed: ImageIds = field(default_factory=lambda: np.empty(0, np.int64))
    negated: bool = True

    def as_text(self) -> FilterExpression:
        """The expression with the list inside, for Milvus Lite."""
        return FilterExpression(self._expression("[" + ", ".join(map(str, self.listed.tolist())) + "]"), {})

    def as_template(self) -> FilterExpression:
        """The expression with the list as a parameter, which the server need not parse (from Milvus 2.5)."""
        return FilterExpression(
            self._expression("{listed}"), {"listed": self.listed.tolist()} if len(self.listed) else {}
        )

    def _expression(self, listed: str) -> str:
        terms = [f"(id >= {first} and id <= {last})" for first, last in self.ranges]
        if len(self.listed):
            terms.append(f"id in {listed}")
        within = f"id >= {self.first} and id <= {self.last}"
        return f"{within} and {'not ' if self.negated else ''}({' or '.join(terms)})" if terms else within


@dataclass(frozen=True)
class IdBlock:
    """A block of ids in a Milvus collection, with a mask of the allowed ones.

    Attributes:
        image_ids: (n,) int64 in ascending order, all ids of the Milvus collection between the first and the last.
        allowed: (n,) mask of the ids that may be found.
        limits: limits on the ranges and the list in a condition.
    """

    image_ids: ImageIds
    allowed: Mask
    limits: MilvusLimits = DEFAULT_LIMITS.milvus

    @cached_property
    def count(self) -> int:
        """Number of allowed ids."""
        return int(np.count_nonzero(self.allowed))

    def halves(self) -> "tuple[IdBlock, IdBlock]":
        """Two blocks with half of the allowed ids each; at least two ids must be allowed."""
        middle = int(np.flatnonzero(self.allowed)[self.count // 2])
        return replace(self, image_ids=self.image_ids[:middle], allowed=self.allowed[:middle]), replace(
            self, image_ids=self.image_ids[middle:], allowed=self.allowed[middle:]
        )

    @cached_property
    def condition(self) -> IdCondition:
        """A condition that holds for the allowed ids and no others in the collection. At least one must be allowed."""
        first, last = np.flatnonzero(self.allowed)[[0, -1]].tolist()
        image_ids, allowed = self.image_ids[first : last + 1], self.allowed[first : last + 1]
        included, excluded = (_ranges_and_list(image_ids, chosen, self.limits.ranges) for chosen in (allowed, ~allowed))
        negated = len(excluded[1]) <= len(included[1])
        ranges, listed = excluded if negated else included
        return IdCondition(int(image_ids[0]), int(image_ids[-1]), ranges, listed, negated)


def split_blocks(block: IdBlock, most: int | None = None) -> Iterator[IdBlock]:
    """Splits a block into blocks whose conditions fit into a message.

    Args:
        block: block with any number of ids.
        most: most allowed ids per block; None for any number.

    Yields:
        Blocks with at least one allowed id, in ascending order of ids.
    """
    if not block.count:
        return
    if (most is not None and block.count > most) or len(block.condition.listed) > block.limits.listed_ids:
        for half in block.halves():
            yield from split_blocks(half, most)
    else:
        yield block


def _ranges_and_list(image_ids: ImageIds, chosen: Mask, most: int) -> tuple[tuple[tuple[int, int], ...], ImageIds]:
    """The chosen ids as at most ``most`` ranges, which may include ids that do not exist, and a list of the others."""
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
