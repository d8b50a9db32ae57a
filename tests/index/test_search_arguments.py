"""The arguments that `Index.search` accepts, and the errors for others."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Hit, Index, Query, build
from glam.model import Model

from ..conftest import ContentModel

COUNT = 6


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    root = tmp_path_factory.mktemp("arguments")
    (root / "photos").mkdir()
    for i in range(COUNT):
        (root / "photos" / f"{i}.jpg").write_text(f"content {i}")
    build(root / "i.glam", read_folder(root / "photos"), cast(Model, ContentModel()))
    with Index.open(root / "i.glam") as opened:
        yield opened


@pytest.fixture
def query(index: Index) -> NDArray[np.float32]:
    return index.descriptor(2)


def ids(lists: list[list[Hit]]) -> list[list[int]]:
    return [[hit.image_id for hit in hits] for hits in lists]


@pytest.mark.parametrize("rerank", [None, "aqe"])
def test_descriptors_and_queries_give_the_same_lists(index: Index, rerank: str | None) -> None:
    rows = index.descriptors([2, 4, 5])
    expected = ids(index.search(rows, rerank=rerank))
    assert [found[0] for found in expected] == [2, 4, 5]
    assert ids(index.search([Query(row) for row in rows], rerank=rerank)) == expected
    assert ids(index.search([Query(rows[0]), rows[1], Query(rows[2])], rerank=rerank)) == expected
    assert ids(index.search(rows.astype(np.float64), rerank=rerank)) == expected
    assert ids(index.search(rows.tolist(), rerank=rerank)) == expected
    assert ids(index.search(rows[1], rerank=rerank)) == expected[1:2]
    assert ids(index.search(Query(rows[1]), rerank=rerank)) == expected[1:2]
    assert index.search(rows[:0], rerank=rerank) == []


@pytest.mark.parametrize("rerank", [None, "aqe"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda query: query * 1.002, r"has length 1\.002 instead of 1\. Normalize it"),
        (lambda query: query * 0, "has length 0 instead of 1"),
        (
            lambda query: np.where(np.arange(len(query)) == 3, np.nan, query),
            "NaN or infinite numbers. Describe its image",
        ),
        (
            lambda query: np.where(np.arange(len(query)) == 3, np.inf, query),
            "NaN or infinite numbers. Describe its image",
        ),
        (lambda query: query[:-1], r"of shape \(\d+,\) do not fit an index of descriptors of length \d+\. Give"),
        (lambda query: query[None, None], r"of shape \(1, 1, \d+\) do not fit"),
        (lambda query: query[0], r"of shape \(\) do not fit"),
        (lambda query: [], r"of shape \(0,\) do not fit"),
        (lambda query: query.astype(np.int64), "of type int64 are not descriptors. Give float32"),
        (lambda query: query > 0, "of type bool are not descriptors"),
        (lambda query: "a.jpg", "are not descriptors"),
        (lambda query: None, "are not descriptors"),
        (lambda query: [query, query[:-1]], "not an array of numbers. Give an array of shape"),
        (lambda query: Query(query[None]), r"of shape \(1, \d+\) do not fit"),
        (lambda query: [Query(query), Query(2 * query)], "has length 2 instead of 1"),
    ],
)
def test_the_error_for_an_invalid_query_says_what_to_do(
    index: Index, query: NDArray[np.float32], change: Any, sentence: str, rerank: str | None
) -> None:
    with pytest.raises(GlamError, match=sentence) as raised:
        index.search(change(query), rerank=rerank)
    assert "\n" not in str(raised.value)


def test_rounding_is_within_the_tolerance(index: Index, query: NDArray[np.float32]) -> None:
    assert index.search(query.astype(np.float16))[0][0].image_id == 2
    assert index.search(query * np.float32(1.0009))[0][0].image_id == 2


@pytest.mark.parametrize("rerank", [None, "aqe"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 0}, "k is 0. Give at least 1"),
        ({"k": -3}, "k is -3. Give at least 1"),
        ({"k": 0, "threshold": 0.5}, "k is 0. Give at least 1"),
        ({"k": None}, "Neither k nor threshold is given. Give one"),
        ({"threshold": 1.5}, r"The threshold is 1\.5\. Scores are cosines, so give a number from -1 to 1"),
        ({"threshold": -1.1}, "The threshold is -1.1"),
        ({"threshold": float("nan")}, "The threshold is nan"),
    ],
)
def test_the_error_for_invalid_limits_says_what_to_do(
    index: Index, query: NDArray[np.float32], options: Any, sentence: str, rerank: str | None
) -> None:
    with pytest.raises(GlamError, match=sentence):
        index.search(query, rerank=rerank, **options)


def test_more_hits_than_images_and_the_widest_threshold_give_all(index: Index, query: NDArray[np.float32]) -> None:
    assert len(index.search(query, 1_000)[0]) == COUNT
    assert len(index.search(query, None, threshold=-1)[0]) == COUNT
    assert len(index.search(query, None, threshold=-1, rerank="aqe")[0]) == COUNT


def test_an_unknown_step_is_rejected(index: Index, query: NDArray[np.float32]) -> None:
    with pytest.raises(GlamError, match="no re-ranking step 'best'"):
        index.search(query, rerank="best")
