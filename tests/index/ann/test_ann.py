"""Search structures compared with brute force."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index.ann import KINDS, DescriptorSource, Structure, build_structure, choose_kind, read_structure
from glam.index.ann.ivf_pq import IvfPq
from glam.index.ann.rescore import best_of, bitmap, score
from glam.index.storage.segments import StoredDescriptors
from glam.index.types import Descriptors, Rows, Scores

COUNT, DIM = 12_000, 32


class ArrayDescriptors(DescriptorSource):
    """Descriptors in memory."""

    def __init__(self, array: Descriptors) -> None:
        self.array = array
        self.dim = array.shape[1]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Descriptors:
        return self.array[rows]


def views(landmarks: int, count: int, seed: int) -> Descriptors:
    """Random descriptors of views of landmarks; the landmarks are the same for every seed."""
    means = np.random.default_rng(0).normal(size=(landmarks, DIM))
    rng = np.random.default_rng(seed)
    descriptors = means[rng.integers(landmarks, size=count)] + 0.6 * rng.normal(size=(count, DIM))
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)


def plain(
    descriptors: Descriptors, query: Descriptors, k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[Scores, Rows]:
    """Brute force: all inner products, sorted."""
    scores = descriptors @ query
    order = np.argsort(-scores, kind="stable")
    order = order if allowed is None else order[allowed[order]]
    return scores[order[:k]], order[:k]


def recall(
    found: Rows, descriptors: Descriptors, queries: Descriptors, allowed: NDArray[np.bool_] | None = None
) -> float:
    k = found.shape[1]
    expected = [plain(descriptors, query, k, allowed)[1] for query in queries]
    return float(np.mean([np.isin(near, rows).mean() for near, rows in zip(expected, found, strict=True)]))


DESCRIPTORS = views(600, COUNT, seed=1)
QUERIES = views(600, 100, seed=2)


@pytest.fixture(scope="module")
def built() -> dict[str, Structure]:
    return {kind: build_structure(ArrayDescriptors(DESCRIPTORS), kind) for kind in KINDS}


@pytest.fixture(params=list(KINDS))
def structure(request: pytest.FixtureRequest, built: dict[str, Structure]) -> Structure:
    return built[request.param]


def test_results_are_the_nearest_with_their_exact_scores(structure: Structure) -> None:
    scores, rows = structure.search(QUERIES, 10)
    assert recall(rows, DESCRIPTORS, QUERIES) >= (1.0 if structure.kind == "exact" else 0.98)
    assert (np.diff(scores, axis=1) <= 0).all()
    exact = np.einsum("qd,qkd->qk", QUERIES, DESCRIPTORS[rows])
    np.testing.assert_allclose(scores, exact, atol=1e-5)


def test_a_single_best_result(structure: Structure) -> None:
    _, rows = structure.search(DESCRIPTORS[:50], 1)
    assert (rows[:, 0] == np.arange(50)).mean() >= 0.98


@pytest.mark.parametrize("share", [0.9, 0.3, 0.05, 0.0005])
def test_a_mask_is_applied_inside_the_search(structure: Structure, share: float) -> None:
    allowed = np.random.default_rng(3).random(COUNT) < share
    _, rows = structure.search(QUERIES, 10, allowed)
    assert allowed[rows[rows >= 0]].all()
    assert (np.count_nonzero(rows >= 0, axis=1) == min(10, allowed.sum())).all()
    assert recall(rows, DESCRIPTORS, QUERIES, allowed) >= (1.0 if structure.kind == "exact" else 0.98)


def test_a_mask_that_leaves_only_other_landmarks(built: dict[str, Structure]) -> None:
    """Like ``city = 'Rome'`` with a query from Paris: the nearest lists may hold no allowed row."""
    structure = built["ivf_pq"]
    for query in QUERIES[:20]:
        allowed = DESCRIPTORS @ query < 0.3
        _, rows = structure.search(query[None], 10, allowed)
        assert allowed[rows].all()
        far = np.zeros(COUNT, dtype=bool)
        far[np.argsort(DESCRIPTORS @ query)[:3000]] = True
        _, rows = structure.search(query[None], 10, far)
        assert far[rows].all()


def test_more_results_than_rows(structure: Structure) -> None:
    allowed = np.zeros(COUNT, dtype=bool)
    allowed[[5, 77, 4000]] = True
    scores, rows = structure.search(QUERIES[:2], 5, allowed)
    assert (rows[:, 3:] == -1).all()
    assert (scores[:, 3:] == -np.inf).all()
    assert (np.sort(rows[:, :3], axis=1) == [5, 77, 4000]).all()
    nothing, nowhere = structure.search(QUERIES[:1], 2, np.zeros(COUNT, dtype=bool))
    assert nowhere.tolist() == [[-1, -1]]
    assert nothing.tolist() == [[-np.inf, -np.inf]]


@pytest.mark.parametrize("threshold", [0.4, 0.7])
@pytest.mark.parametrize("masked", [False, True])
def test_a_range_search_returns_what_reaches_the_threshold(
    structure: Structure, threshold: float, masked: bool
) -> None:
    allowed = np.random.default_rng(4).random(COUNT) < 0.5 if masked else None
    found = expected = 0
    for query in QUERIES[:20]:
        scores, rows = structure.range_search(query, threshold, allowed)
        plain_scores, near = plain(DESCRIPTORS, query, COUNT, allowed)
        near = near[plain_scores >= threshold]
        assert (scores >= threshold).all()
        assert (np.diff(scores) <= 0).all()
        assert np.isin(rows, near).all()
        np.testing.assert_allclose(scores, DESCRIPTORS[rows] @ query, atol=1e-5)
        found, expected = found + len(rows), expected + len(near)
    assert found >= (expected if structure.kind == "exact" else 0.98 * expected)


def test_a_range_search_includes_the_threshold() -> None:
    descriptors = np.eye(4, dtype=np.float32)
    structure = build_structure(ArrayDescriptors(descriptors), "exact")
    assert structure.range_search(descriptors[2], 1.0)[1].tolist() == [2]
    assert structure.range_search(descriptors[2], 0.0)[1].tolist() == [2, 0, 1, 3]


def test_equal_scores_of_candidates_are_ordered_by_row() -> None:
    """The order of the candidates does not matter."""
    descriptors = np.repeat(np.eye(2, dtype=np.float32), [6, 2], axis=0)
    rows = np.array([5, 1, 7, 3, 0])
    _, found = best_of([score(ArrayDescriptors(descriptors), descriptors[0], rows)], 4)
    assert found.tolist() == [[0, 1, 3, 5]]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_added_later_are_found(kind: str) -> None:
    structure = build_structure(ArrayDescriptors(DESCRIPTORS[:10_000]), kind) if kind == "exact" else _grown()
    if kind == "exact":
        structure.add(DESCRIPTORS[10_000:])
    assert len(structure) == COUNT
    _, rows = structure.search(DESCRIPTORS[10_000:10_200], 1)
    assert (rows[:, 0] == np.arange(10_000, 10_200)).mean() >= 0.98


def _grown() -> Structure:
    class Growing(ArrayDescriptors):
        length = 10_000

        def __len__(self) -> int:
            return self.length

        def __getitem__(self, rows: slice | NDArray[np.int64]) -> Descriptors:
            return self.array[: self.length][rows]

    descriptors = Growing(DESCRIPTORS)
    structure = build_structure(descriptors, "ivf_pq")
    with pytest.raises(ValueError, match="10001 rows"):
        structure.add(DESCRIPTORS[:1])
    descriptors.length = COUNT
    structure.add(DESCRIPTORS[10_000:])
    return structure


def test_a_written_structure_reads_back_the_same(structure: Structure, tmp_path: Path) -> None:
    structure.write(tmp_path / "structure")
    assert [file.name for file in tmp_path.iterdir()] == ["structure"]
    again = read_structure(tmp_path / "structure", ArrayDescriptors(DESCRIPTORS))
    assert (again.kind, len(again), again.memory_bytes) == (structure.kind, COUNT, structure.memory_bytes)
    for one, other in zip(structure.search(QUERIES, 10), again.search(QUERIES, 10), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_structure_may_have_fewer_rows_than_the_index(structure: Structure, tmp_path: Path) -> None:
    structure.write(tmp_path / "structure")
    more = ArrayDescriptors(np.concatenate([DESCRIPTORS, QUERIES]))
    again = read_structure(tmp_path / "structure", more)
    assert len(again) == COUNT
    again.add(QUERIES)
    assert (again.search(QUERIES, 1)[1][:, 0] >= COUNT).mean() >= 0.98


def test_the_same_rows_make_the_same_structure(built: dict[str, Structure]) -> None:
    again = build_structure(ArrayDescriptors(DESCRIPTORS), "ivf_pq")
    first = built["ivf_pq"]
    assert isinstance(first, IvfPq)
    assert isinstance(again, IvfPq)
    assert first.tuning == again.tuning
    np.testing.assert_array_equal(first.search(QUERIES, 10)[1], again.search(QUERIES, 10)[1])


def test_tuning_reaches_its_goal_on_the_rows_themselves(built: dict[str, Structure]) -> None:
    structure = built["ivf_pq"]
    assert isinstance(structure, IvfPq)
    assert [effort.share for effort in structure.tuning.efforts] == [1.0, 0.1, 0.01]
    assert all(effort.recall >= 0.99 for effort in structure.tuning.efforts)
    assert structure.tuning.reach(10, 1.0) == structure.tuning.efforts[0].reach
    assert structure.tuning.reach(10, 0.0001) == structure.tuning.efforts[-1].reach
    assert structure.tuning.reach(1000, 1.0) == structure.tuning.efforts[-1].reach
    assert structure.tuning.reach(10, 0.99) == pytest.approx(structure.tuning.efforts[0].reach, rel=0.01)


def test_compressed_rows_take_a_fraction_of_the_memory(built: dict[str, Structure]) -> None:
    assert built["exact"].memory_bytes == COUNT * DIM * 4
    assert built["ivf_pq"].memory_bytes < 0.75 * built["exact"].memory_bytes


@pytest.mark.parametrize(("count", "dim", "kind"), [(0, 512, "exact"), (51_200, 512, "exact"), (51_201, 512, "ivf_pq")])
def test_the_kind_depends_on_the_size_of_the_descriptors(count: int, dim: int, kind: str) -> None:
    assert choose_kind(count, dim) == kind


@pytest.mark.parametrize("content", [b"", b"not an index", b'{"kind": "exact"}', b"\n[1]", b'\n{"kind": "else"}'])
def test_a_file_that_is_not_a_structure_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "structure").write_bytes(content)
    with pytest.raises(GlamError, match="structure"):
        read_structure(tmp_path / "structure", ArrayDescriptors(DESCRIPTORS))


def test_many_duplicates_do_not_harm_the_tuning() -> None:
    descriptors = views(600, 3_000, seed=1)
    descriptors[500:1500] = descriptors[0]
    structure = build_structure(ArrayDescriptors(descriptors), "ivf_pq")
    assert isinstance(structure, IvfPq)
    assert structure.tuning.efforts[0].recall >= 0.95


def test_inverted_lists_of_few_rows() -> None:
    descriptors = views(5, 40, seed=1)
    _, rows = IvfPq.build(ArrayDescriptors(descriptors), scanned=0).search(descriptors, 1)
    assert (rows[:, 0] == np.arange(40)).all()


def test_inner_products_with_stored_descriptors_do_not_depend_on_the_segment() -> None:
    segments, rows_in_segment = np.array([2, 1, 1, 7, 2, 1]), np.array([5, 0, 9, 3, 0, 4])
    maps = {1: DESCRIPTORS[:20], 2: DESCRIPTORS[20:30]}  # segment 7 is not stored
    stored = StoredDescriptors(maps, segments, rows_in_segment, DIM)
    rows = np.array([4, 0, 3, 1, 5, 2, 0])
    np.testing.assert_allclose(stored.inner_products(QUERIES[0], rows), stored[rows] @ QUERIES[0], atol=1e-6)
    assert stored.inner_products(QUERIES[0], rows)[2] == 0
    assert stored.inner_products(QUERIES[0], rows[:0]).shape == (0,)


def test_far_lists_are_searched_if_the_filter_allows_no_others() -> None:
    descriptors = np.random.default_rng(0).normal(size=(2_000, 64)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    structure = IvfPq.build(ArrayDescriptors(descriptors), scanned=10)
    allowed = np.zeros(2_000, dtype=np.bool_)
    allowed[np.argsort(descriptors @ descriptors[0])[:20]] = True
    _, rows = structure._score_candidates(descriptors[0], 20, 20, 0.0, bitmap(allowed))
    assert sorted(rows.tolist()) == np.flatnonzero(allowed).tolist()


def test_queries_unlike_all_rows_find_their_nearest() -> None:
    """Rows in tight clusters, whose neighbors are easy to find, and queries that lie between the clusters."""
    rng = np.random.default_rng(0)
    clusters, noise, queries = rng.normal(size=(100, 64)), rng.normal(size=(20_000, 64)), rng.normal(size=(100, 64))
    descriptors = unit(clusters[rng.integers(100, size=20_000)] + 0.3 * noise)
    descriptors[:500] = unit(np.repeat(queries, 5, axis=0) + rng.normal(size=(500, 64)))
    structure = IvfPq.build(ArrayDescriptors(descriptors))
    asked = unit(queries)
    _, rows = structure.search(asked, 10)
    assert recall(rows, descriptors, asked) > 0.95
    reach = 0.0  # far too small
    first = [structure._lists.scan_near(query, reach, 50, None)[2][1] for query in asked]
    final = [structure._score_candidates(query, 10, 50, reach, None)[1] for query in asked]
    exact = [np.argsort(-(descriptors @ query))[:10] for query in asked]
    shares = [np.mean([np.isin(*pair).mean() for pair in zip(exact, found, strict=True)]) for found in (first, final)]
    assert shares[0] < 0.85
    assert shares[1] > 0.93


def unit(descriptors: NDArray[np.float64]) -> Descriptors:
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)
