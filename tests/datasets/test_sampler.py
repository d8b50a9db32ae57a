"""Batches of one size: each image once per epoch, reproducible, resumable at any batch."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.datasets.sampler import ASPECT_RATIOS, LandmarkSampling, SizeBatchSampler, group_sizes

RANDOM = np.random.default_rng(0)
SHAPES = [(int(w), int(h)) for w, h in RANDOM.integers(100, 2000, size=(500, 2))]


def images(sampler: SizeBatchSampler) -> list[int]:
    return [draw.index for batch in sampler for draw in batch]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_image_comes_once_an_epoch_over_all_ranks(ranks: int) -> None:
    sizes = group_sizes(SHAPES, 256)
    samplers = [SizeBatchSampler(sizes, 16, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert Counter(image for s in samplers for image in images(s)) == Counter(range(500))
    assert len({len(s) for s in samplers}) == 1, "every rank must have as many batches, or one waits for ever"


def test_a_batch_has_one_size_and_is_never_too_large() -> None:
    for batch in SizeBatchSampler(group_sizes(SHAPES, 256), 16):
        assert len({draw.size for draw in batch}) == 1
        assert len(batch) <= 16


def test_sizes_are_few_and_near_the_images_shapes() -> None:
    sizes = group_sizes(SHAPES, 512)
    assert len(set(sizes)) <= len(ASPECT_RATIOS)
    assert all(max(size) == 512 and size[0] % 32 == 0 and size[1] % 32 == 0 for size in sizes)
    for (width, height), size in zip(SHAPES, sizes, strict=True):
        if 9 / 16 <= width / height <= 16 / 9:
            assert abs(np.log(width / height) - np.log(size[1] / size[0])) < 0.25


def test_small_groups_join_the_nearest() -> None:
    shapes = [(400, 300)] * 50 + [(300, 300)] * 3
    assert len(set(group_sizes(shapes, 256))) == 2
    assert len(set(group_sizes(shapes, 256, smallest_group=10))) == 1
    assert len(set(group_sizes(shapes, 256, smallest_group=3))) == 2, "a group of just the smallest size stays"


def test_an_epoch_has_its_own_order_which_is_always_the_same() -> None:
    first, again = (SizeBatchSampler(group_sizes(SHAPES, 256), 16, seed=3) for _ in range(2))
    assert images(first) == images(again)
    again.set_epoch(1)
    assert images(first) != images(again)
    assert len(first) == len(again)


def test_an_epoch_can_be_entered_at_any_batch() -> None:
    whole, rest = (SizeBatchSampler(group_sizes(SHAPES, 256), 16) for _ in range(2))
    rest.start = 7
    assert list(rest) == list(whole)[7:]
    assert list(rest) == list(whole), "only the first pass is cut short"


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_train_images_of_one_size_at_a_time(ranks: int) -> None:
    """Each step takes as long as its largest images, so sizes differ only where a group has too few batches left."""
    samplers = [SizeBatchSampler(group_sizes(SHAPES, 256), 8, rank=rank, ranks=ranks) for rank in range(ranks)]
    steps = [{batch[0].size for batch in step} for step in zip(*samplers, strict=True)]
    assert sum(len(step) > 1 for step in steps) < len(ASPECT_RATIOS)
    first_sizes = [next(iter(step)) for step in steps if len(step) == 1]
    assert first_sizes != sorted(first_sizes), "sizes come in turn over the epoch"


def test_a_cap_on_images_of_a_landmark() -> None:
    landmark_ids = np.repeat(np.arange(5), [200, 150, 100, 47, 3])
    sampler = SizeBatchSampler(group_sizes(SHAPES, 256), 16, sampling=LandmarkSampling(landmark_ids, per_epoch=40))
    chosen = images(sampler)
    assert Counter(landmark_ids[chosen].tolist()) == {0: 40, 1: 40, 2: 40, 3: 40, 4: 3}
    assert len(chosen) == len(set(chosen))
    count = len(sampler)
    sampler.set_epoch(1)
    assert set(images(sampler)) != set(chosen), "another choice every epoch"
    assert len(sampler) == count, "but as many batches"


def pk_sampler(landmark_ids: NDArray[np.int64], **options: int) -> SizeBatchSampler:
    sizes = group_sizes(SHAPES[: len(landmark_ids)], 256)
    return SizeBatchSampler(sizes, 16, sampling=LandmarkSampling(landmark_ids, per_batch=4), **options)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_batch_has_several_images_of_each_landmark(ranks: int) -> None:
    """Landmarks of one size come in fours, as far as each has so many images of that size."""
    landmark_ids = RANDOM.integers(0, 12, size=500)
    samplers = [pk_sampler(landmark_ids, rank=rank, ranks=ranks) for rank in range(ranks)]
    batches = [batch for sampler in samplers for batch in sampler]
    assert Counter(draw.index for batch in batches for draw in batch) == Counter(range(500))
    assert max(map(len, batches)) <= 16
    assert len({len(sampler) for sampler in samplers}) == 1
    cells = Counter((landmark_ids[draw.index], draw.size) for batch in batches for draw in batch)
    possible = sum(count // 4 for count in cells.values())
    found = sum(
        count // 4 for batch in batches for count in Counter(landmark_ids[draw.index] for draw in batch).values()
    )
    assert found >= possible if ranks == 1 else found >= 0.8 * possible  # batches may be halved for several processes


def test_epochs_of_several_images_per_landmark_differ_and_are_as_long() -> None:
    landmark_ids = RANDOM.integers(0, 12, size=500)
    sampler, entered = pk_sampler(landmark_ids), pk_sampler(landmark_ids)
    first = images(sampler)
    entered.start = 5
    assert images(entered) == [draw.index for batch in list(pk_sampler(landmark_ids))[5:] for draw in batch]
    count = len(sampler)
    sampler.set_epoch(1)
    assert images(sampler) != first
    assert len(sampler) == len(list(sampler)) == count
