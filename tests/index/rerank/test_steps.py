"""The steps of reranking: each against its definition, written out slowly in float64, and what all of them keep to."""

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
"""Query (dim,), all images (n, dim) and the rows looked at, to the score of each of them."""

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


def asked(descriptors: NDArray[np.float32]) -> tuple[Query, Ranked, MemoryDatabase]:
    """The first row asks the others; the list of all of them."""
    database = MemoryDatabase([descriptors[1:]], random_features)
    scores, rows = database.nearest(descriptors[:1], len(descriptors) - 1)
    return Query(descriptors[0], lambda: random_features(0)), Ranked(rows[0], scores[0]), database


def cosine(a: Matrix, b: Matrix) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def nearest(images: Matrix, row: int, k: int) -> list[int]:
    """The k images nearest to an image."""
    return sorted((i for i in range(len(images)) if i != row), key=lambda i: -cosine(images[i], images[row]))[:k]


def mean_with(own: Matrix, others: list[Matrix], alpha: float, weight: float = 1) -> Matrix:
    total = own.copy()
    for other in others:
        total += weight * max(cosine(own, other), 0) ** alpha * other
    return np.asarray(total / np.linalg.norm(total))


def slow_augmentation(query: Matrix, images: Matrix, looked_at: list[int]) -> dict[int, float]:
    asking = mean_with(query, [images[i] for i in looked_at[:4]], 2)
    means = {i: mean_with(images[i], [images[j] for j in nearest(images, i, 4)], 2) for i in looked_at}
    return {i: float(asking @ mean) for i, mean in means.items()}


def slow_superglobal(query: Matrix, images: Matrix, looked_at: list[int]) -> dict[int, float]:
    refined = {}
    for i in looked_at:
        others = [images[j] for j in looked_at if j != i] + [query]
        others.sort(key=lambda other: -cosine(other, images[i]))
        refined[i] = mean_with(images[i], others[:5], 1, 0.7)
    asking = query.copy()
    for i in looked_at[:3]:
        asking += 0.7 * max(cosine(query, images[i]), 0) * refined[i]
    return {i: cosine(asking, row) for i, row in refined.items()}


def slow_diffusion(query: Matrix, images: Matrix, looked_at: list[int]) -> dict[int, float]:
    """The iteration itself, until nothing moves any more."""
    near = {i: set(nearest(images, i, 6)) for i in looked_at}
    edges = {
        (i, j): max(cosine(images[i], images[j]), 0) ** 2
        for i in looked_at
        for j in looked_at
        if i in near[j] and j in near[i]
    }
    degree = {i: sum(weight for (a, _), weight in edges.items() if a == i) for i in looked_at}
    given = {i: max(cosine(query, images[i]), 0) ** 2 if i in looked_at[:4] else 0.0 for i in looked_at}
    flown = dict.fromkeys(looked_at, 0.0)
    for _ in range(200):
        step = {i: 0.2 * given[i] for i in looked_at}
        for (i, j), weight in edges.items():
            step[i] += 0.8 * weight / np.sqrt(degree[i] * degree[j]) * flown[j]
        flown = step
    return flown


def slow_reciprocal(query: Matrix, images: Matrix, looked_at: list[int]) -> dict[int, float]:
    """With sets; -1 is the query, which takes nobody's place among the neighbors."""
    row = {-1: query, **{i: images[i] for i in looked_at}}

    @cache
    def near(i: int, k: int) -> set[int]:
        ranked = sorted(looked_at, key=lambda j: -cosine(query, images[j])) if i < 0 else nearest(images, i, k)
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
    for i in looked_at:
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
    query, ranked, database = asked(descriptors)
    expected = slow(descriptors[0].astype(float), descriptors[1:].astype(float), ranked.rows[:DEPTH].tolist())
    found = step(query, ranked, database)
    assert found.rows[:DEPTH].tolist() == sorted(expected, key=lambda i: -round(expected[i], 9))
    np.testing.assert_allclose(found.scores[:DEPTH], [expected[i] for i in found.rows[:DEPTH]], atol=2e-6)


def test_query_expansion_searches_with_the_mean(descriptors: NDArray[np.float32]) -> None:
    query, ranked, database = asked(descriptors)
    images = descriptors[1:].astype(float)
    mean = mean_with(descriptors[0].astype(float), [images[i] for i in ranked.rows[:5]], 3)
    found = AlphaQueryExpansion(k=5, alpha=3)(query, ranked, database)
    assert found.rows.tolist() == np.argsort(-(images @ mean), kind="stable").tolist()
    np.testing.assert_allclose(found.scores, np.sort(images @ mean)[::-1], atol=2e-6)


def test_query_expansion_brings_new_images_and_loses_none(descriptors: NDArray[np.float32]) -> None:
    query, ranked, database = asked(descriptors)
    short = Ranked(ranked.rows[[0, 1, 2, 80]], ranked.scores[[0, 1, 2, 80]])
    found = AlphaQueryExpansion(k=2)(replace(query, length=10), short, database)
    assert len(found) == 11
    assert found.rows[-1] == ranked.rows[80], "missed by the second search, it stays, behind"


def test_verification_moves_up_what_agrees_and_nothing_down(descriptors: NDArray[np.float32]) -> None:
    query, ranked, _ = asked(descriptors)
    last = int(ranked.rows[19])
    agreeing = MemoryDatabase([descriptors[1:]], lambda i: random_features(0) if i == last else random_features(i + 1))
    found = GeometricVerification(depth=20)(query, ranked, agreeing)
    assert found.rows.tolist() == [last, *ranked.rows[:19], *ranked.rows[20:]]
    assert found.scores[0] == 40
    assert not found.scores[1:20].any()
    nearer = GeometricVerification(depth=19)(query, ranked, agreeing)
    assert nearer.rows.tolist() == ranked.rows.tolist(), "it lies behind the depth"
    unread = MemoryDatabase([descriptors[1:]], lambda _: None)
    assert GeometricVerification()(query, ranked, unread).rows.tolist() == ranked.rows.tolist()


def test_verification_leaves_images_with_too_few_pairs_where_they_were(descriptors: NDArray[np.float32]) -> None:
    query, ranked, _ = asked(descriptors)
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
def test_a_step_keeps_every_image_and_the_order_behind_its_depth(descriptors: NDArray[np.float32], name: str) -> None:
    query, ranked, database = asked(descriptors)
    step = STEPS[name]() if name == "aqe" else STEPS[name](depth=30)  # type: ignore[call-arg]
    before = ranked.rows.copy(), ranked.scores.copy()
    found = step(query, ranked, database)
    np.testing.assert_array_equal(ranked.rows, before[0], "the list given is not touched")
    np.testing.assert_array_equal(ranked.scores, before[1])
    assert sorted(found.rows.tolist()) == sorted(ranked.rows.tolist())
    assert (found.rows.dtype, found.scores.dtype) == (np.int64, np.float32)
    looked_at = len(ranked) if name == "aqe" else 30
    assert found.rows[looked_at:].tolist() == ranked.rows[looked_at:].tolist()
    assert (np.diff(found.scores[:looked_at]) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("name", STEPS)
def test_a_database_of_few_images_is_enough(name: str, count: int) -> None:
    descriptors = np.eye(6, dtype=np.float32)[: count + 1] + np.float32(0.1)
    query, _, database = asked(descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))
    found = Chain((STEPS[name](),)).search(query, database, 10)
    assert sorted(found.rows.tolist()) == list(range(count))
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("name", STEPS)
def test_the_same_arguments_give_the_same_list_in_any_thread(descriptors: NDArray[np.float32], name: str) -> None:
    query, ranked, database = asked(descriptors)
    with ThreadPoolExecutor(4) as threads:
        lists = list(threads.map(lambda _: STEPS[name]()(query, ranked, database).rows.tolist(), range(8)))
    assert lists == lists[:1] * 8


def test_what_is_missing_is_said(descriptors: NDArray[np.float32]) -> None:
    query, ranked, database = asked(descriptors)
    with pytest.raises(GlamError, match="the query is a descriptor; to compare it point by point, its image is needed"):
        GeometricVerification()(Query(query.descriptor), ranked, database)
    with pytest.raises(GlamError, match="there are only descriptors here"):
        GeometricVerification()(query, ranked, MemoryDatabase([descriptors[1:]]))
