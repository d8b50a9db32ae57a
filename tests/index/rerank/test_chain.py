"""Chains: their text form, errors in it, and searches with them."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from glam.errors import GlamError
from glam.index.rerank.base import Database, Query, Ranked, Step
from glam.index.rerank.chain import DEFAULT, LONGEST, STEPS, Chain, parse_chain
from glam.index.rerank.memory_database import MemoryDatabase
from glam.index.rerank.steps.aqe import AlphaQueryExpansion
from glam.index.rerank.steps.dba import DatabaseAugmentation


def test_steps_come_in_order_with_their_options() -> None:
    chain = parse_chain(" aqe:k=3:alpha=0.5 , dba")
    assert chain.steps == (AlphaQueryExpansion(k=3, alpha=0.5), DatabaseAugmentation())
    assert parse_chain("default") == parse_chain(DEFAULT)


@pytest.mark.parametrize("text", ["default", *STEPS, "geometric:least=5,aqe:alpha=0.12345678"])
def test_a_chain_is_written_with_every_option_and_read_back(text: str) -> None:
    chain = parse_chain(text)
    assert parse_chain(str(chain)) == chain
    assert str(chain).count("=") == sum(len(fields(step)) for step in chain.steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no re-ranking step ''. Choose from aqe, dba, diffusion, reciprocal, superglobal, geometric, or"),
        ("qe", "There is no re-ranking step 'qe'. Choose from aqe, dba,"),
        ("aqe,default", "There is no re-ranking step 'default'. .* or give default by itself"),
        ("aqe:n=3", "The step aqe has no option 'n'. Choose from k, alpha."),
        ("aqe:k", "aqe:k: 'k' is not an option. Write options as name=number."),
        ("aqe:k=", "aqe:k= is not allowed. Give an integer from 1 to 100."),
        ("aqe:k=2.5", "aqe:k=2.5 is not allowed. Give an integer from 1 to 100."),
        ("aqe:k=1:k=2", "aqe:k=1:k=2: the option k is given twice. Give it once."),
        ("geometric:depth=100000", "geometric:depth=100000 is not allowed. Give an integer from 1 to 500."),
        ("diffusion:alpha=1", "diffusion:alpha=1 is not allowed. Give a number from 0.0 to 0.999."),
        ("diffusion:alpha=nan", "diffusion:alpha=nan is not allowed. Give a number"),
        (",".join(["aqe"] * (LONGEST + 1)), f"The re-ranking chain has {LONGEST + 1} steps. Give at most {LONGEST}."),
    ],
)
def test_errors_say_what_is_wrong_and_what_to_do(text: str, message: str) -> None:
    with pytest.raises(GlamError, match=message):
        parse_chain(text)


@pytest.mark.parametrize("name", STEPS)
def test_every_option_has_bounds_that_hold_its_default(name: str) -> None:
    options: tuple[Any, ...] = fields(STEPS[name])  # type: ignore[arg-type]
    for option in options:
        assert option.metadata["least"] <= option.default <= option.metadata["most"]
        assert f"{option.name}:" in (STEPS[name].__doc__ or ""), "and is documented"


class Noted:
    """A step that reverses the list and records its length. It does not inherit from `Step`."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.seen: list[int] = []

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        self.seen.append(len(ranked))
        return Ranked(ranked.rows[::-1], ranked.scores[::-1])


def test_a_chain_searches_as_deep_as_its_deepest_step_and_returns_k_results() -> None:
    descriptors = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0].astype(np.float32)
    steps = Noted(3), Noted(12)
    found = Chain(steps).search(Query(descriptors[0]), MemoryDatabase([descriptors]), 5)
    plain = MemoryDatabase([descriptors]).nearest(descriptors[:1], 5)[1][0]
    assert found.rows.tolist() == plain.tolist(), "reversed twice"
    assert [step.seen for step in steps] == [[12], [12]]
    assert len(Chain(steps).search(Query(descriptors[0]), MemoryDatabase([descriptors]), 100)) == 20


def test_query_expansion_finds_more_images_than_it_needs() -> None:
    descriptors = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0].astype(np.float32)
    step = Noted(12)
    chain = Chain((AlphaQueryExpansion(k=2), step))
    assert len(chain.search(Query(descriptors[0]), MemoryDatabase([descriptors]), 5)) == 5
    assert step.seen == [12]
    assert len(parse_chain("aqe").search(Query(descriptors[0]), MemoryDatabase([descriptors]), 15)) == 15


class Searching(Step):
    """A step that searches again with the query itself, and records the length of the list."""

    depth = 2
    searches_again = True

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        self.seen.append(len(ranked))
        scores, rows = database.nearest(query.descriptor[None], query.length, query.allowed)
        return Ranked(rows[0], scores[0])


def test_a_first_step_that_searches_again_gets_a_list_of_its_own_depth() -> None:
    descriptors = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0].astype(np.float32)
    database, query = MemoryDatabase([descriptors]), Query(descriptors[0])
    step, deeper = Searching(), Noted(12)
    found = Chain((step, deeper)).search(query, database, 5)
    assert (step.seen, deeper.seen) == ([2], [12])
    assert found.rows.tolist() == database.nearest(descriptors[:1], 12)[1][0, :-6:-1].tolist()
    later = Searching()
    Chain((deeper, later)).search(query, database, 5)
    assert later.seen == [12], "the first step needs them all"


class Inheriting(Step):
    """A step that does not define `searches_again`."""

    depth = 2

    def __call__(self, query: Query, ranked: Ranked, database: Database) -> Ranked:
        assert len(ranked) == 5
        return ranked


def test_a_step_does_not_search_again_by_default() -> None:
    descriptors = np.eye(20, dtype=np.float32)
    assert len(Chain((Inheriting(),)).search(Query(descriptors[0]), MemoryDatabase([descriptors]), 5)) == 5
    assert [name for name, kind in STEPS.items() if kind().searches_again] == ["aqe"]


def test_a_chain_needs_local_features_if_a_step_does() -> None:
    assert [name for name, kind in STEPS.items() if kind().needs_local_features] == ["geometric"]
    assert parse_chain("aqe,geometric").needs_local_features
    assert not parse_chain("aqe,superglobal").needs_local_features
    assert not Chain((Noted(3), Inheriting())).needs_local_features


def test_an_empty_list_stays_empty() -> None:
    step = Noted(3)
    empty = MemoryDatabase([np.empty((0, 4), dtype=np.float32)])
    assert len(Chain((step,)).search(Query(np.eye(4, dtype=np.float32)[0]), empty, 5)) == 0
    assert step.seen == []


def test_a_list_grows_until_enough_of_its_rows_are_accepted() -> None:
    descriptors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    order = np.argsort(-(descriptors @ descriptors[0]))
    accepted = np.zeros(200, dtype=np.bool_)
    accepted[order[[2, 30, 190]]] = True
    step = Noted(3)
    found = Chain((step, Noted(3))).search(Query(descriptors[0]), MemoryDatabase([descriptors]), 2, accepted)
    assert found.rows.tolist() == order[[2, 30]].tolist()
    assert step.seen == [3, 12, 48]


def test_the_filter_of_a_query_limits_what_a_step_finds() -> None:
    descriptors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    allowed = np.arange(60) % 3 == 0
    found = parse_chain("aqe,superglobal").search(
        Query(descriptors[0], allowed=allowed), MemoryDatabase([descriptors]), 60
    )
    assert sorted(found.rows.tolist()) == np.flatnonzero(allowed).tolist()
