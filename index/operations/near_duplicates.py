"""Images of an index that are all but the same: copies, other sizes, other crops of one photograph.

glam index duplicates --> near_duplicates --> Index.within
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glam.index.storage.catalog import Entry
from glam.index.types import Rows
from glam.progress import Progress, no_progress

if TYPE_CHECKING:
    from glam.index.index import Index

BLOCK = 256


@dataclass(frozen=True)
class Group:
    """Images each of which is a near-duplicate of another of them.

    Attributes:
        images: by id.
        similarity: least cosine of two images that were found to be near-duplicates and joined.
    """

    images: tuple[Entry, ...]
    similarity: float


def near_duplicates(index: "Index", threshold: float, *, progress: Progress = no_progress) -> list[Group]:
    """Groups of near-duplicates, the largest first. Two images are in one group when a chain of near-duplicates joins
    them; with an approximate search structure a pair may be missed.

    Args:
        index: open for searching.
        threshold: least cosine of near-duplicates.
        progress: called with images done and images in all.
    """
    image_ids = index.image_ids
    parents = np.arange(len(image_ids))
    least: dict[int, float] = {}
    for start in range(0, len(image_ids), BLOCK):
        descriptors = index.descriptors(image_ids[start : start + BLOCK].tolist())
        for row, (scores, found) in enumerate(index.within(descriptors, threshold), start=start):
            for score, other in zip(scores.tolist(), found.tolist(), strict=True):
                if other != row:
                    _join(parents, least, row, other, score)
        progress(min(start + BLOCK, len(image_ids)), len(image_ids))
    members: dict[int, list[int]] = {}
    for row in range(len(image_ids)):
        members.setdefault(_first(parents, row), []).append(row)
    groups = [
        Group(index.entries(image_ids[rows].tolist()), least[first]) for first, rows in members.items() if len(rows) > 1
    ]
    return sorted(groups, key=lambda group: (-len(group.images), group.images[0].image_id))


def _first(parents: Rows, row: int) -> int:
    """The row that represents the group of ``row``."""
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = int(parents[row])
    return row


def _join(parents: Rows, least: dict[int, float], a: int, b: int, score: float) -> None:
    first, second = sorted((_first(parents, a), _first(parents, b)))
    parents[second] = first
    least[first] = min(least.get(first, score), least.pop(second, score) if second != first else score, score)
