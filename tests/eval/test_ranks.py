"""Ranks by counting against ranks by sorting, with ties, NaN, any precision, and any block size."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.ranks import count_above
from glam.eval.ranks.gpu import GpuCounter
from glam.eval.tie_break import Descriptors, Keys, tie_break_keys

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Made = Callable[[np.random.Generator, tuple[int, int]], Descriptors]


def random(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    descriptors = rng.standard_normal(shape)
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)


def doubled(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    """Each descriptor is in several rows, so that every score is a tie."""
    return random(rng, (max(1, shape[0] // 5), shape[1]))[rng.integers(max(1, shape[0] // 5), size=shape[0])]


def quantized(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    return rng.integers(-1, 2, shape).astype(np.float16)


def with_nan(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    descriptors = doubled(rng, shape)
    descriptors[rng.random(len(descriptors)) < 0.2, 0] = np.nan
    return descriptors


def nearly_constant(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    """Equal terms are all rounded in the same direction, the worst case of single precision."""
    return ((1 + rng.integers(3, size=(shape[0], 1)) * 1e-7) * (1 + 0.01 * rng.random(shape[1]))).astype(np.float64)


def of_many_lengths(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    return (random(rng, shape) * 10.0 ** rng.integers(-12, 12, (shape[0], 1))).astype(np.float32)


def tiny(rng: np.random.Generator, shape: tuple[int, int]) -> Descriptors:
    return random(rng, shape) * np.float32(1e-25)


def sorted_ranks(query: NDArray[np.floating], descriptors: Descriptors) -> NDArray[np.int64]:
    """The rank of every row, by sorting."""
    scores = (descriptors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    ranks = np.empty(len(descriptors), dtype=np.int64)
    ranks[order] = np.arange(len(descriptors))
    return ranks


MAKERS = [random, doubled, quantized, with_nan, nearly_constant, of_many_lengths, tiny]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", MAKERS)
def test_counting_agrees_with_sorting(make: Made, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 80))
    block_bytes, query_block = int(rng.integers(1, 20)) * 400, int(rng.integers(2, 6))
    everything = make(rng, (int(rng.integers(30, 400)), dim))
    queries = make(rng, (5, dim))
    ends = np.sort(rng.integers(10, len(everything) + 1, 2))
    parts = np.split(everything, ends)
    wanted = [rng.permutation(len(parts[0]))[: rng.integers(0, 10)] for _ in queries]
    keys = [tie_break_keys(query, parts[0][rows], rows) for query, rows in zip(queries, wanted, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        above = count_above(queries, keys, parts, block_bytes=block_bytes, query_block=query_block)
    for query, rows, counted in zip(queries, wanted, above, strict=True):
        assert counted.tolist() == sorted_ranks(query, everything)[rows].tolist()


def test_equal_descriptors_tie_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    descriptor, queries = random(rng, (1, 333)), random(rng, (3, 333))
    database, distractors = np.repeat(descriptor, 101, axis=0), np.repeat(descriptor, 5000, axis=0)
    rows = np.array([0, 57, 100])
    keys = [tie_break_keys(query, database[rows], rows) for query in queries]
    for counted in count_above(queries, keys, [database, distractors]):
        assert counted.tolist() == [0, 57, 100]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dim", [512, 8192])
def test_rounding_that_always_goes_one_way_changes_no_rank(dim: int, seed: int) -> None:
    """The errors of equal terms add up to more than `LEAST_ERROR` and than the score differences; samples detect it."""
    rng = np.random.default_rng(seed)
    descriptors = (1 + rng.integers(-50, 50, (400, 1)) * 1e-8) * np.full(dim, dim**-0.5)
    queries = np.full((1, dim), dim**-0.5 * (1 + rng.random() / 10))
    rows = np.arange(0, 400, 7)
    (above,) = count_above(queries, [tie_break_keys(queries[0], descriptors[rows], rows)], [descriptors])
    assert above.tolist() == sorted_ranks(queries[0], descriptors)[rows].tolist()


def test_infinite_descriptors_are_refused() -> None:
    database = np.ones((3, 4), dtype=np.float16)
    database[1, 2] = np.inf
    rows = np.array([0])
    keys = [tie_break_keys(database[0], database[rows], rows)]
    with pytest.raises(GlamError, match="infinite"):
        count_above(database[:1], keys, [database])


def test_progress_ends_at_all_rows_and_threads_are_given_back() -> None:
    descriptors = random(np.random.default_rng(0), (50, 8))
    rows = np.arange(3)
    seen: list[tuple[int, int]] = []
    threads = torch.get_num_threads()
    keys = [tie_break_keys(descriptors[0], descriptors[rows], rows)]
    count_above(descriptors[:1], keys, [descriptors, descriptors], progress=lambda *done: seen.append(done))
    assert seen == [(50, 100), (100, 100)]
    assert torch.get_num_threads() == threads


def counted_by_gpu(queries: Descriptors, keys: list[Keys], parts: list[Descriptors], size: int) -> list[list[int]]:
    """Counts in blocks of ``size`` rows, on the CPU if there is no GPU."""
    counter, everything = GpuCounter(queries, keys, DEVICE), np.concatenate(parts)
    blocks = [(everything[start : start + size], start) for start in range(0, len(everything), size)]
    assert list(counter.count(blocks)) == [len(block) for block, _ in blocks]
    return [counts.tolist() for counts in counter.above()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", MAKERS)
def test_the_gpu_counter_agrees_with_sorting(make: Made, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dim, total = int(rng.integers(1, 80)), int(rng.integers(30, 400))
    everything, queries = make(rng, (total, dim)), make(rng, (5, dim))
    wanted = [rng.permutation(total)[: rng.integers(0, 10)] for _ in queries]
    keys = [tie_break_keys(query, everything[rows], rows) for query, rows in zip(queries, wanted, strict=True)]
    counted = counted_by_gpu(queries, keys, [everything], int(rng.integers(1, total + 1)))
    for query, rows, found in zip(queries, wanted, counted, strict=True):
        assert found == sorted_ranks(query, everything)[rows].tolist()


@pytest.mark.parametrize("dim", [512, 8192])
def test_the_gpu_counter_sees_rounding_that_always_goes_one_way(dim: int) -> None:
    rng = np.random.default_rng(0)
    descriptors = ((1 + rng.integers(-50, 50, (400, 1)) * 1e-8) * np.full(dim, dim**-0.5)).astype(np.float64)
    query = np.full((1, dim), dim**-0.5 * (1 + rng.random() / 10))
    rows = np.arange(0, 400, 7)
    (above,) = counted_by_gpu(query, [tie_break_keys(query[0], descriptors[rows], rows)], [descriptors], 400)
    assert above == sorted_ranks(query[0], descriptors)[rows].tolist()


def test_the_gpu_counter_refuses_infinite_descriptors() -> None:
    descriptors = np.ones((4, 2), dtype=np.float32)
    keys = [tie_break_keys(descriptors[0], descriptors[:1], np.arange(1))]
    with pytest.raises(GlamError, match="infinite"):
        counted_by_gpu(descriptors[:1], keys, [np.where(np.arange(4)[:, None] == 2, np.inf, descriptors)], 4)
