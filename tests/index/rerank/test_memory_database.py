"""The database in memory: exact for any split into parts, and without a hidden image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.index.rerank.base import NEIGHBORS
from glam.index.rerank.memory_database import MemoryDatabase


@pytest.fixture
def descriptors() -> NDArray[np.float64]:
    descriptors = np.random.default_rng(0).normal(size=(70, 8))
    return np.asarray(descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))


def slow_order(descriptors: NDArray[np.float64], query: NDArray[np.float64], gone: set[int]) -> list[int]:
    return [i for i in np.argsort(-(descriptors @ query), kind="stable").tolist() if i not in gone]


def test_the_nearest_come_from_all_parts(descriptors: NDArray[np.float64]) -> None:
    parts = [descriptors[:30].astype(np.float32), descriptors[:0], descriptors[30:]]
    database = MemoryDatabase(parts, block=16)
    scores, rows = database.nearest(descriptors[:5].astype(np.float32), 20)
    for query, query_scores, query_rows in zip(descriptors, scores, rows, strict=False):
        assert query_rows.tolist() == slow_order(descriptors, query, set())[:20]
        np.testing.assert_allclose(query_scores, np.sort(descriptors @ query)[::-1][:20], atol=1e-6)
    np.testing.assert_allclose(database.matrix[np.array([69, 0, 30])], descriptors[[69, 0, 30]], atol=1e-7)
    np.testing.assert_allclose(database.matrix[25:35], descriptors[25:35], atol=1e-7)


def test_fewer_images_than_k_leave_rows_empty(descriptors: NDArray[np.float64]) -> None:
    scores, rows = MemoryDatabase([descriptors[:3]]).nearest(descriptors[:1].astype(np.float32), 5)
    assert rows[0, 3:].tolist() == [-1, -1]
    assert scores[0, 3:].tolist() == [-np.inf, -np.inf]


def test_neighbors_exclude_the_image_itself(descriptors: NDArray[np.float64]) -> None:
    database = MemoryDatabase([descriptors])
    images = np.array([5, 69, 5, 0])
    found = database.neighbors(images)
    assert found.rows.shape == (4, NEIGHBORS)
    for row, near in zip(images.tolist(), found.rows, strict=True):
        assert near.tolist() == slow_order(descriptors, descriptors[row], {row})[:NEIGHBORS]
    np.testing.assert_array_equal(database.neighbors(images).rows, found.rows, "the cached neighbors")


def test_a_hidden_image_is_neither_found_nor_a_neighbor(descriptors: NDArray[np.float64]) -> None:
    database = MemoryDatabase([descriptors]).without(7)
    ranking = database.nearest(descriptors[7:8].astype(np.float32), 69)[1][0].tolist()
    assert ranking == slow_order(descriptors, descriptors[7], {7})
    found = database.neighbors(np.arange(7))
    for row, near in enumerate(found.rows):
        assert near.tolist() == slow_order(descriptors, descriptors[row], {row, 7})[:NEIGHBORS]


def test_equal_images_are_ordered_by_row_and_nan_is_never_found(descriptors: NDArray[np.float64]) -> None:
    descriptors = np.repeat(descriptors[:2], 3, axis=0)
    descriptors[4] = np.nan
    found = MemoryDatabase([descriptors]).nearest(descriptors[:1].astype(np.float32), 6)[1][0].tolist()
    assert found == [0, 1, 2, 3, 5, -1]


def test_a_mask_limits_the_results_in_every_block(descriptors: NDArray[np.float64]) -> None:
    allowed = np.random.default_rng(1).random(70) < 0.4
    database = MemoryDatabase([descriptors[:30], descriptors[30:]], block=8)
    found = database.nearest(descriptors[:3].astype(np.float32), 40, allowed)[1]
    for query, rows in zip(descriptors, found, strict=False):
        expected = slow_order(descriptors, query, set(np.flatnonzero(~allowed).tolist()))
        assert rows[rows >= 0].tolist() == expected
