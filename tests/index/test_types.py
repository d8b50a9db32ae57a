"""The lookup of ids in a sorted array, compared with a dictionary."""

import numpy as np
import pytest

from glam.index.types import rows_of_ids


@pytest.mark.parametrize("count", [0, 1, 2, 50])
@pytest.mark.parametrize("shape", [(0,), (7,), (5, 4), ()])
def test_ids_are_found_as_in_a_dictionary(count: int, shape: tuple[int, ...]) -> None:
    draws = np.random.default_rng(count)
    sorted_ids = np.sort(draws.choice(100, count, replace=False))
    ids = np.asarray(draws.integers(-1, 102, shape))
    row_of = {int(image_id): row for row, image_id in enumerate(sorted_ids)}
    found = rows_of_ids(sorted_ids, ids)
    assert found.shape == shape
    assert found.dtype == np.int64
    assert found.ravel().tolist() == [row_of.get(int(image_id), -1) for image_id in ids.ravel()]


def test_the_first_and_last_ids_are_found_and_others_are_not() -> None:
    assert rows_of_ids(np.array([3, 5, 9]), np.array([9, 3, 2, 10, 4, 5])).tolist() == [2, 0, -1, -1, -1, 1]
