"""`near_duplicates`: finds images that are nearly the same, such as copies, resized versions, and slight crops.

glam index duplicates --> near_duplicates --> Index.within
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glam.index.storage.records import Entry
from glam.index.types import Rows
from glam.progress import Progress, no_progress

if TYPE_CHECKING:
    from glam.index.index import Index

BLOCK = 256
"""Images searched for at a time (arbitrary)."""


@dataclass(frozen=True)
class Group:
    """A group of images. Each image is a near-duplicate of at least one other image in the group.

    Attributes:
        images: the images, by ascending id.
        similarity: lowest cosine similarity among the pairs of near-duplicates that connect the group.
    """

    images: tuple[Entry, ...]
    similarity: float


def near_duplicates(index: "Index", threshold: float, *, progress: Progress = no_progress) -> list[Group]:
    """Finds groups of near-duplicates.

    Two images are in the same group if a chain of near-duplicates connects them. An approximate search structure may
    miss a pair.

    Args:
        index: index opened for searching.
        threshold: lowest cosine similarity of a pair of near-duplicates, in [-1, 1].
        progress: called with the number of images done and the total.

    Returns:
        The groups of at least two images, the largest group first.
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
