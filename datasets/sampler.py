"""Batches of images of one size, so that none is padded and none is squeezed far from its shape.

The paper's own ablation gives this more than anything else: fixed 224 x 224 pixels reach 55.7 mAP on ROxford-M, batches
of like aspect ratio 78.6 (arXiv 2107.08000, "group-size sampling").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from glam.sizes import Size, fitted_size

ASPECT_RATIOS = (9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9)
"""Width over height of the groups: what cameras and screens give, and their portraits."""


@dataclass(frozen=True)
class Draw:
    """One image to be drawn for training.

    Attributes:
        index: of the image in the collection.
        size: (height, width) in pixels that the image is resized to.
        epoch: from 0; augmentation is drawn from epoch and index, so that it does not depend on the process.
    """

    index: int
    size: Size
    epoch: int


class EpochPart(NamedTuple):
    """A part of an epoch that is done.

    Attributes:
        ranks: processes that did it.
        batch_size: most images in a batch then.
        batches: how many each of them did.
    """

    ranks: int
    batch_size: int
    batches: int


def group_sizes(
    shapes: Sequence[tuple[int, int]],
    longest: int,
    *,
    multiple: int = 32,
    smallest_group: int = 1,
    ratios: Sequence[float] = ASPECT_RATIOS,
) -> list[Size]:
    """The training size of each image: that of the group with the nearest aspect ratio.

    Args:
        shapes: (width, height) of each image in pixels.
        longest: longest side of every group's size, in pixels.
        multiple: of every side of a size, in pixels.
        smallest_group: groups of fewer images are given up, and theirs go to the next nearest (the largest group
            stays).
        ratios: width over height of the groups.

    Returns:
        (height, width) for each image.
    """
    logs = np.log([width / height for width, height in shapes])
    centers = np.log(sorted(ratios))
    kept = np.arange(len(centers))
    while True:
        nearest = kept[np.abs(logs[:, None] - centers[kept]).argmin(axis=1)]
        counts = np.bincount(nearest, minlength=len(centers))[kept]
        if len(kept) == 1 or counts.min() >= smallest_group:
            break
        kept = np.delete(kept, counts.argmin())
    sizes = [fitted_size(round(10_000 * np.exp(c)), 10_000, longest, multiple) for c in centers]
    return [sizes[group] for group in nearest]


class SizeBatchSampler(Sampler[list[Draw]]):
    """Batches of one size each; over all ranks every image comes once an epoch.

    The batches of an epoch are a function of seed and epoch alone, there are equally many in every epoch, and an epoch
    can be entered at any batch, so that training resumes where it was. Where other numbers of ranks, or batches of
    another size, have done a part of the epoch, what that left is batched anew.

    Args:
        sizes: (height, width) that each image is brought to.
        batch_size: most images in a batch; a group is split evenly, so that no batch is much smaller than the others.
        shuffle: whether images and batches come in a new order every epoch.
        landmark_ids: (n,) landmark of each image, needed with ``per_landmark``.
        per_landmark: most images of one landmark in an epoch, drawn again in each epoch; all of them by default.
        seed: of the order.
        rank: of this process.
        ranks: how many processes share the images.

    Attributes:
        epoch: that the next pass draws.
        earlier: parts of that epoch that are passed over; none once it has been entered.
        start: batches, after them, that are passed over; back to 0 once it has been entered.
    """

    def __init__(
        self,
        sizes: Sequence[Size],
        batch_size: int,
        *,
        shuffle: bool = True,
        landmark_ids: NDArray[np.int64] | None = None,
        per_landmark: int | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.sizes = list(sizes)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0
        self.earlier: tuple[EpochPart, ...] = ()
        self.start = 0
        kinds = sorted(set(self.sizes))
        self._group = np.array([kinds.index(size) for size in self.sizes], dtype=np.int64)
        landmark_of = np.zeros(len(self.sizes), dtype=np.int64) if landmark_ids is None else landmark_ids
        _, self._cell = np.unique(np.stack([landmark_of, self._group]), axis=1, return_inverse=True)
        self._quota = _quotas(landmark_of, self._cell, len(self.sizes) if per_landmark is None else per_landmark)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that the next pass draws."""
        self.epoch = epoch

    @property
    def sampler(self) -> "SizeBatchSampler":
        """Itself: Lightning tells the epoch to a batch sampler's ``sampler``."""
        return self

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[Draw]]:
        batches, self.start, self.earlier = self._batches()[self.start :], 0, ()
        for batch in batches:
            yield [Draw(int(index), self.sizes[index], self.epoch) for index in batch]

    @property
    def skipped(self) -> int:
        """Batches by which the epoch is shorter for this rank because of its earlier parts."""
        return len(self) - len(self._batches()) if self.earlier else 0

    @cached_property
    def _length(self) -> int:
        """Batches of this rank in a whole epoch, equally many in each."""
        indices, random = self._epoch_images()
        return len(self._plan(indices, self.batch_size, self.ranks, random)) // self.ranks

    def _batches(self) -> list[NDArray[np.int64]]:
        """This rank's batches of the epoch after its earlier parts, as indices of images."""
        indices, random = self._epoch_images()
        for part in self.earlier:
            done = self._plan(indices, part.batch_size, part.ranks, random)[: part.ranks * part.batches]
            indices = indices[~np.isin(indices, np.concatenate([[-1], *done]))]
        return self._plan(indices, self.batch_size, self.ranks, random)[self.rank :: self.ranks]

    def _epoch_images(self) -> tuple[NDArray[np.int64], np.random.Generator]:
        """Indices of the epoch's images in its order, and the random generator of its batches."""
        random = np.random.default_rng([self.seed, self.epoch])
        indices = random.permutation(len(self.sizes)) if self.shuffle else np.arange(len(self.sizes))
        return indices[_earlier_in_cell(self._cell[indices]) < self._quota[self._cell[indices]]], random

    def _plan(
        self, indices: NDArray[np.int64], batch_size: int, ranks: int, random: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """Batches of the images at these indices, in turn for each of the ranks."""
        groups = self._group[indices]
        batches = [
            part
            for group in np.unique(groups)
            for part in np.array_split(indices[groups == group], -(-int((groups == group).sum()) // batch_size))
        ]
        _split_to_multiple(batches, ranks)
        order = random.permutation(len(batches)) if self.shuffle else np.arange(len(batches))
        batches = [batches[i] for i in order]
        return [batches[i] for i in _rounds([int(self._group[batch[0]]) for batch in batches], ranks).flatten()]


def _rounds(groups: Sequence[int], ranks: int) -> NDArray[np.intp]:
    """(rounds, ranks) batches to be trained at the same time: of one group where there are enough of it, for every rank
    waits for the one with the largest images; rounds in the order in which the first of each comes.

    Args:
        groups: the group of each batch; their number is a multiple of ``ranks``.
        ranks: how many batches are trained at a time.
    """
    rounds = np.argsort(groups, kind="stable").reshape(-1, ranks)
    return rounds[np.argsort(rounds.min(axis=1))]


def _earlier_in_cell(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each entry, how many entries of the same cell come before it."""
    by_cell = np.argsort(cells, kind="stable")
    earlier = np.empty(len(cells), dtype=np.int64)
    earlier[by_cell] = np.arange(len(cells)) - np.searchsorted(cells[by_cell], cells[by_cell])
    return earlier


def _quotas(landmark_ids: NDArray[np.int64], cells: NDArray[np.int64], per_landmark: int) -> NDArray[np.int64]:
    """Images per cell (landmark and size) in an epoch: in proportion to the cells, at most ``per_landmark`` per
    landmark."""
    counts = np.bincount(cells)
    landmark_of_cell = np.zeros(len(counts), dtype=np.int64)
    landmark_of_cell[cells] = landmark_ids
    order = np.argsort(landmark_of_cell, kind="stable")
    quota = np.zeros(len(counts), dtype=np.int64)
    for landmark_cells in np.split(order, np.flatnonzero(np.diff(landmark_of_cell[order])) + 1):
        total = int(counts[landmark_cells].sum())
        # The ends are rounded, not the quotas, so that the quotas sum exactly to the limit.
        ends = np.cumsum(counts[landmark_cells]) * min(per_landmark, total) // total
        quota[landmark_cells] = np.diff(ends, prepend=0)
    return quota


def _split_to_multiple(batches: list[NDArray[np.int64]], ranks: int) -> None:
    """Halves the largest batches until every rank gets as many, so that none waits for another at the end; of fewer
    images than ranks, some come twice."""
    while len(batches) % ranks and max(map(len, batches)) > 1:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        batches += np.array_split(batches.pop(largest), 2)
    batches += [batches[i % len(batches)] for i in range(-len(batches) % ranks)]
