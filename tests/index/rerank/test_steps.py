"""The re-ranking steps: each compared with a slow implementation in float64, and properties that all share."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index.local_matching import LocalFeatures
from glam.index.rerank.base import Query, Ranked, Step
from glam.index.rerank.chain import STEPS, Chain
from glam.index.rerank.memory_database import MemoryDatabase
from glam.index.rerank.steps.aqe import AlphaQueryExpansion
from glam.index.rerank.steps.dba import DatabaseAugmentation
from glam.index.rerank.steps.diffusion import Diffusion
from glam.index.rerank.steps.geometric import GeometricVerification
from glam.index.rerank.steps.k_reciprocal import KReciprocal
from glam.index.rerank.steps.superglobal import SuperGlobal

Matrix = NDArray[np.float64]
Slow = Callable[[Matrix, Matrix, list[int]], dict[int, float]]
"""Maps a query (dim,), all images (n, dim), and the rows to re-rank to the new score of each of these rows."""

COUNT, DIM, DEPTH = 90, 12, 60


@pytest.fixture(params=range(4))
def descriptors(request: pytest.FixtureRequest) -> NDArray[np.float32]:
    """Images of nine landmarks; the first is the query."""
    generator = np.random.default_rng(request.param)
    landmarks = generator.normal(size=(9, DIM))
    descriptors = landmarks[generator.integers(9, size=COUNT)] + 0.6 * generator.normal(size=(COUNT, DIM))
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)


def random_features(seed: int) -> LocalFeatures:
    generator = np.random.default_rng(seed)
    return LocalFeatures(
        generator.uniform(0, 300, (40, 2)).astype(np.float32),
        np.full(40, 8, np.float32),
        generator.integers(0, 256, (40, 128), dtype=np.uint8),
        1.0,
    )


def ranked_by_first(descriptors: NDArray[np.float32]) -> tuple[Query, Ranked, MemoryDatabase]:
    """The first descriptor as the query, the ranked list of all others, and their database."""
    database = MemoryDatabase([descriptors[1:]], random_features)
    scores, rows = database.nearest(descriptors[:1], len(descriptors) - 1)
    return Query(descriptors[0], lambda: random_features(0)), Ranked(rows[0], scores[0]), database


def cosine(a: Matrix, b: Matrix) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def nearest(images: Matrix, row: int, k: int) -> list[int]:
    """The k nearest neighbors of an image."""
    return sorted((i for i in range(len(images)) if i != row), key=lambda i: -cosine(images[i], images[row]))[:k]


def mean_with(own: Matrix, others: list[Matrix], alpha: float, weight: float = 1) -> Matrix:
    total = own.copy()
    for other in others:
        total += weight * max(cosine(own, other), 0) ** alpha * other
    return np.asarray(total / np.linalg.norm(total))


def slow_augmentation(query: Matrix, images: Matrix, rows: list[int]) -> dict[int, float]:
    expanded = mean_with(query, [images[i] for i in rows[:4]], 2)
    means = {i: mean_with(images[i], [images[j] for j in nearest(images, i, 4)], 2) for i in rows}
    return {i: float(expanded @ mean) for i, mean in means.items()}


def slow_superglobal(query: Matrix, images: Matrix, rows: list[int]) -> dict[int, float]:
    refined = {}
    for i in rows:
        others = [images[j] for j in rows if j != i] + [query]
        others.sort(key=lambda other: -cosine(other, images[i]))
        refined[i] = mean_with(images[i], others[:5], 1, 0.7)
    expanded = query.copy()
    for i in rows[:3]:
        expanded += 0.7 * max(cosine(query, images[i]), 0) * refined[i]
    return {i: cosine(expanded, row) for i, row in refined.items()}


def slow_diffusion(query: Matrix, images: Matrix, rows: list[int]) -> dict[int, float]:
    """The iteration of the paper, until it converges."""
    near = {i: set(nearest(images, i, 6)) for i in rows}
    edges = {
        (i, j): max(cosine(images[i], images[j]), 0) ** 2 for i in rows for j in rows if i in near[j] and j in near[i]
    }
    degree = {i: sum(weight for (a, _), weight in edges.items() if a == i) for i in rows}
    given = {i: max(cosine(query, images[i]), 0) ** 2 if i in rows[:4] else 0.0 for i in rows}
    flown = dict.fromkeys(rows, 0.0)
    for _ in range(200):
        step = {i: 0.2 * given[i] for i in rows}
        for (i, j), weight in edges.items():
            step[i] += 0.8 * weight / np.sqrt(degree[i] * degree[j]) * flown[j]
        flown = step
    return flown


def slow_reciprocal(query: Matrix, images: Matrix, rows: list[int]) -> dict[int, float]:
    """With sets; -1 is the query, which does not displace a neighbor."""
    row = {-1: query, **{i: images[i] for i in rows}}

    @cache
    def near(i: int, k: int) -> set[int]:
        ranked = sorted(rows, key=lambda j: -cosine(query, images[j])) if i < 0 else nearest(images, i, k)
        least = cosine(row[i], images[ranked[k - 1]])
        return {i} | {j for j in row if cosine(row[i], row[j]) >= least - 1e-9}

    @cache
    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in near(i, k) if i in near(j, k)}

    def neighborhood(i: int) -> dict[int, float]:
        members = reciprocal(i, 8)
        for j in reciprocal(i, 8):
            half = reciprocal(j, 4)
            if len(half & reciprocal(i, 8)) >= 2 / 3 * len(half):
                members = members | half
        weights = {j: np.exp(-np.sum((row[i] - row[j]) ** 2)) for j in members}
        return {j: weight / sum(weights.values()) for j, weight in weights.items()}

    own = {i: neighborhood(i) for i in row}
    averaged = {i: {j: np.mean([own[a].get(j, 0.0) for a in near(i, 3)]) for j in row} for i in row}
    scores = {}
    for i in rows:
        common = sum(min(averaged[-1][j], averaged[i][j]) for j in row)
        either = sum(max(averaged[-1][j], averaged[i][j]) for j in row)
        scores[i] = 0.75 * common / either + 0.25 * cosine(query, images[i])
    return scores


@pytest.mark.parametrize(
    ("step", "slow"),
    [
        (DatabaseAugmentation(k=4, alpha=2, depth=DEPTH), slow_augmentation),
        (SuperGlobal(k=5, first=3, weight=0.7, depth=DEPTH), slow_superglobal),
        (Diffusion(k=6, seeds=4, gamma=2, alpha=0.8, depth=DEPTH), slow_diffusion),
        (KReciprocal(k=8, averaged=3, share=0.25, depth=DEPTH), slow_reciprocal),
    ],
    ids=["augmentation", "superglobal", "diffusion", "reciprocal"],
)
def test_a_step_scores_by_its_definition(descriptors: NDArray[np.float32], step: Step, slow: Slow) -> None:
    query, ranked, database = ranked_by_first(descriptors)
    expected = slow(descriptors[0].astype(float), descriptors[1:].astype(float), ranked.rows[:DEPTH].tolist())
    found = step(query, ranked, database)
    assert found.rows[:DEPTH].tolist() == sorted(expected, key=lambda i: -round(expected[i], 9))
    np.testing.assert_allclose(found.scores[:DEPTH], [expected[i] for i in found.rows[:DEPTH]], atol=2e-6)


def test_query_expansion_searches_with_the_mean(descriptors: NDArray[np.float32]) -> None:
    query, ranked, database = ranked_by_first(descriptors)
    images = descriptors[1:].astype(float)
    mean = mean_with(descriptors[0].astype(float), [images[i] for i in ranked.rows[:5]], 3)
    found = AlphaQueryExpansion(k=5, alpha=3)(query, ranked, database)
    assert found.rows.tolist() == np.argsort(-(images @ mean), kind="stable").tolist()
    np.testing.assert_allclose(found.scores, np.sort(images @ mean)[::-1], atol=2e-6)


def test_query_expansion_adds_images_and_drops_none(descriptors: NDArray[np.float32]) -> None:
    query, ranked, database = ranked_by_first(descriptors)
    short = Ranked(ranked.rows[[0, 1, 2, 80]], ranked.scores[[0, 1, 2, 80]])
    found = AlphaQueryExpansion(k=2)(replace(query, length=10), short, database)
    assert len(found) == 11
    assert found.rows[-1] == ranked.rows[80], "an image that the second search misses stays at the end"


def test_verification_moves_matching_images_up(descriptors: NDArray[np.float32]) -> None:
    query, ranked, _ = ranked_by_first(descriptors)
    last = int(ranked.rows[19])
    agreeing = MemoryDatabase([descriptors[1:]], lambda i: random_features(0) if i == last else random_features(i + 1))
    found = GeometricVerification(depth=20)(query, ranked, agreeing)
    assert found.rows.tolist() == [last, *ranked.rows[:19], *ranked.rows[20:]]
    assert found.scores[0] == 40
    assert not found.scores[1:20].any()
    nearer = GeometricVerification(depth=19)(query, ranked, agreeing)
    assert nearer.rows.tolist() == ranked.rows.tolist(), "the image is beyond the depth"
    unread = MemoryDatabase([descriptors[1:]], lambda _: None)
    assert GeometricVerification()(query, ranked, unread).rows.tolist() == ranked.rows.tolist()


def test_verification_keeps_the_order_of_images_with_too_few_inliers(descriptors: NDArray[np.float32]) -> None:
    query, ranked, _ = ranked_by_first(descriptors)
    all_points = random_features(0)
    pairs = {int(ranked.rows[5]): 7, int(ranked.rows[9]): 8, int(ranked.rows[14]): 12}  # image to the points it shows

    def features(row: int) -> LocalFeatures:
        shown = pairs.get(row)
        if shown is None:
            return random_features(row + 1)
        return LocalFeatures(
            all_points.points[:shown], all_points.diameters[:shown], all_points.descriptors[:shown], all_points.scale
        )

    partly = MemoryDatabase([descriptors[1:]], features)
    found = GeometricVerification(least=8, depth=20)(query, ranked, partly)
    first = [int(ranked.rows[14]), int(ranked.rows[9])]
    assert found.rows.tolist() == [*first, *(row for row in ranked.rows.tolist() if row not in first)]
    assert found.scores[:3].tolist() == [12, 8, 0]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_keeps_every_image_and_the_order_beyond_its_depth(descriptors: NDArray[np.float32], name: str) -> None:
    query, ranked, database = ranked_by_first(descriptors)
    step = STEPS[name]() if name == "aqe" else STEPS[name](depth=30)  # type: ignore[call-arg]
    before = ranked.rows.copy(), ranked.scores.copy()
    found = step(query, ranked, database)
    np.testing.assert_array_equal(ranked.rows, before[0], "the list given is not touched")
    np.testing.assert_array_equal(ranked.scores, before[1])
    assert sorted(found.rows.tolist()) == sorted(ranked.rows.tolist())
    assert (found.rows.dtype, found.scores.dtype) == (np.int64, np.float32)
    depth = len(ranked) if name == "aqe" else 30
    assert found.rows[depth:].tolist() == ranked.rows[depth:].tolist()
    assert (np.diff(found.scores[:depth]) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("name", STEPS)
def test_a_database_of_few_images_is_enough(name: str, count: int) -> None:
    descriptors = np.eye(6, dtype=np.float32)[: count + 1] + np.float32(0.1)
    query, _, database = ranked_by_first(descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))
    found = Chain((STEPS[name](),)).search(query, database, 10)
    assert sorted(found.rows.tolist()) == list(range(count))
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("name", STEPS)
def test_the_same_arguments_give_the_same_list_in_any_thread(descriptors: NDArray[np.float32], name: str) -> None:
    query, ranked, database = ranked_by_first(descriptors)
    with ThreadPoolExecutor(4) as threads:
        lists = list(threads.map(lambda _: STEPS[name]()(query, ranked, database).rows.tolist(), range(8)))
    assert lists == lists[:1] * 8


def test_missing_local_features_are_reported(descriptors: NDArray[np.float32]) -> None:
    query, ranked, database = ranked_by_first(descriptors)
    with pytest.raises(GlamError, match=r"this query is only a descriptor\. Search with an image"):
        GeometricVerification()(Query(query.descriptor), ranked, database)
    with pytest.raises(GlamError, match="this database has only descriptors"):
        GeometricVerification()(query, ranked, MemoryDatabase([descriptors[1:]]))
