"""Substitutes for unreadable images: a bad file costs a batch one image, and never ends a run.

draw --dataset--> item
     --ImageError--> item of another image, and the error --collate_readable--> batch, errors of the batch
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from glam.datasets.collection import Collection
from glam.datasets.sampler import Draw
from glam.errors import ImageError

Reason = tuple[str, str]
"""Path of an unreadable image and the reason. Unlike an `ImageError`, it can be sent from a worker."""

TRIES = 100
"""Maximum number of substitutes of the same landmark, and of any landmark (arbitrary)."""


class Readable(Dataset[tuple[Any, list[Reason]]]):
    """The items of a dataset that can be read, each with the reasons of the images that could not be read before it.

    Args:
        collection: the images of ``dataset``.
        dataset: its item at a `Draw` raises `ImageError` if the image of the draw cannot be read.
        substituted: whether another image takes the place of an unreadable one. If not, or if no substitute can be
            read, the item is None.
        seed: seed of the choice of substitutes, which also depends on the epoch and the image.
    """

    def __init__(self, collection: Collection, dataset: Dataset[Any], *, substituted: bool, seed: int = 0) -> None:
        self.collection = collection
        self.dataset = dataset
        self.substituted = substituted
        self.seed = seed

    def __len__(self) -> int:
        return len(self.collection)

    def __getitem__(self, draw: Draw) -> tuple[Any, list[Reason]]:
        reasons: list[Reason] = []
        for index in chain([draw.index], self._substitutes(draw)):
            try:
                return self.dataset[replace(draw, index=index)], reasons
            except ImageError as error:
                reasons.append((error.source, error.reason))
        return None, reasons

    def _substitutes(self, draw: Draw) -> Iterator[int]:
        """Yields the indices of other images: first of the same landmark, then of any, each in random order."""
        if not self.substituted:
            return
        random = np.random.default_rng([self.seed, draw.epoch, draw.index])
        same = np.flatnonzero(self.collection.landmark_ids == self.collection.landmark_ids[draw.index])
        yield from random.permutation(same[same != draw.index])[:TRIES].tolist()
        yield from random.integers(len(self.collection), size=TRIES).tolist()


def collate_readable(
    items: Sequence[tuple[Any, list[Reason]]], collate: Callable[[list[Any]], Any]
) -> tuple[Any, list[Reason]]:
    """Collates the items of `Readable` into a batch, and in a worker puts it into shared memory.

    PyTorch would do so in a thread that loses the batch, and lets the run wait for it, if there is too little of it.

    Args:
        items: the items.
        collate: collates the items of the dataset itself.

    Returns:
        The batch, None if no image of it could be read, and the reasons of the unreadable images.
    """
    found = [item for item, _ in items if item is not None]
    batch = collate(found) if found else None
    if get_worker_info() is not None:
        _share(batch)
    return batch, [reason for _, reasons in items for reason in reasons]


def _share(batch: Any) -> None:
    """Moves the tensors of a nested tuple or list into shared memory."""
    if isinstance(batch, Tensor):
        batch.share_memory_()  # type: ignore[no-untyped-call]
    elif isinstance(batch, tuple | list):
        for part in batch:
            _share(part)
