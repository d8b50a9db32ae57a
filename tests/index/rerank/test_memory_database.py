"""The database in memory: exact, whatever its parts, and as if a hidden image were not there."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.index.rerank.base import NEIGHBORS
from glam.index.rerank.memory_database import MemoryDatabase


@pytest.fixture
def rows() -> NDArray[np.float64]:
    rows = np.random.default_rng(0).normal(size=(70, 8))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def slow_order(rows: NDArray[np.float64], query: NDArray[np.float64], gone: set[int]) -> list[int]:
    return [i for i in np.argsort(-(rows @ query), kind="stable").tolist() if i not in gone]


def test_the_nearest_come_from_all_parts(rows: NDArray[np.float64]) -> None:
    parts = [rows[:30].astype(np.float32), rows[:0], rows[30:]]
    database = MemoryDatabase(parts, block=16)
    scores, positions = database.search(rows[:5].astype(np.float32), 20)
    for query, some, at in zip(rows, scores, positions, strict=False):
        assert at.tolist() == slow_order(rows, query, set())[:20]
        np.testing.assert_allclose(some, np.sort(rows @ query)[::-1][:20], atol=1e-6)
    np.testing.assert_allclose(database.rows[np.array([69, 0, 30])], rows[[69, 0, 30]], atol=1e-7)
    np.testing.assert_allclose(database.rows[25:35], rows[25:35], atol=1e-7)


def test_fewer_images_than_asked_for_leave_places_empty(rows: NDArray[np.float64]) -> None:
    scores, positions = MemoryDatabase([rows[:3]]).search(rows[:1].astype(np.float32), 5)
    assert positions[0, 3:].tolist() == [-1, -1]
    assert scores[0, 3:].tolist() == [-np.inf, -np.inf]


def test_neighbors_are_the_nearest_but_the_image_itself(rows: NDArray[np.float64]) -> None:
    database = MemoryDatabase([rows])
    asked = np.array([5, 69, 5, 0])
    found = database.neighbors(asked)
    assert found.positions.shape == (4, NEIGHBORS)
    for image, near in zip(asked.tolist(), found.positions, strict=True):
        assert near.tolist() == slow_order(rows, rows[image], {image})[:NEIGHBORS]
    np.testing.assert_array_equal(database.neighbors(asked).positions, found.positions, "and are remembered")


def test_a_hidden_image_is_not_found_and_nobodys_neighbor(rows: NDArray[np.float64]) -> None:
    database = MemoryDatabase([rows]).without(7)
    assert database.search(rows[7:8].astype(np.float32), 69)[1][0].tolist() == slow_order(rows, rows[7], {7})
    near = database.neighbors(np.arange(7))
    for image, positions in enumerate(near.positions):
        assert positions.tolist() == slow_order(rows, rows[image], {image, 7})[:NEIGHBORS]


def test_equal_images_come_by_position_and_one_that_is_nan_never(rows: NDArray[np.float64]) -> None:
    rows = np.repeat(rows[:2], 3, axis=0)
    rows[4] = np.nan
    found = MemoryDatabase([rows]).search(rows[:1].astype(np.float32), 6)[1][0].tolist()
    assert found == [0, 1, 2, 3, 5, -1]
