"""The protocols of Revisited Oxford and Paris: published figures, published program, and command."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.errors import GlamError
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth, read_ground_truth
from glam.eval.revisitop import CUTS, PROTOCOLS, score_revisited
from glam.eval.tie_break import Descriptors

SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDEN = SHARED / "revisitop"
MINI = SHARED / "roxford_mini"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the official figures are not in ../shared/revisitop")
@pytest.mark.parametrize("variant", ["plain", "distractors"])
@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_the_official_programs_figures_are_reproduced(name: str, variant: str) -> None:
    expected = json.loads((GOLDEN / "golden.json").read_text())[name][variant]
    vectors = np.load(GOLDEN / f"vectors_{name}.npz")
    distractors = [vectors["distractors"]] if variant == "distractors" else []
    truth = read_ground_truth(GOLDEN / f"gnd_{name}.pkl")
    scores = score_revisited(truth, vectors["queries"], vectors["database"], distractors)
    for letter, protocol in zip("EMH", PROTOCOLS, strict=True):
        assert scores[protocol].mean_ap == pytest.approx(expected[letter]["map"], abs=1e-12)
        for k in CUTS:
            assert scores[protocol].precision[k] == pytest.approx(expected[letter]["mp"][str(k)], abs=1e-12)
        official = np.array(expected[letter]["ap"], dtype=float)  # None becomes NaN
        np.testing.assert_allclose(scores[protocol].ap, official, atol=1e-12, equal_nan=True)


def official_scores(
    ranking: NDArray[np.int64], positive: NDArray[np.int64], junk: NDArray[np.int64]
) -> tuple[float, list[float]]:
    """AP and mP@k of a query, computed as in the program of the benchmark."""
    ranks = np.flatnonzero(np.isin(ranking, positive))
    junk_ranks = np.flatnonzero(np.isin(ranking, junk))
    ranks -= np.array([(junk_ranks < rank).sum() for rank in ranks])
    ap = 0.0
    for j, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else j / rank
        ap += (before + (j + 1) / (rank + 1)) / 2 / len(ranks)
    cuts = [min(max(ranks + 1), k) for k in CUTS]
    return ap, [float(((ranks + 1) <= cut).sum() / cut) for cut in cuts]


def random_case(rng: np.random.Generator) -> tuple[GroundTruth, Descriptors, Descriptors, list[Descriptors]]:
    """A ground truth with queries that have no positive, and descriptors with ties, NaN, and zeros."""
    n = int(rng.integers(20, 120))
    dim = int(rng.integers(2, 12))
    queries = []
    for number in range(6):
        judged = np.split(rng.permutation(n)[: rng.integers(0, 20)], np.sort(rng.integers(0, 12, 2)))
        queries.append(BenchmarkQuery(str(number), None, *(tuple(part.tolist()) for part in judged)))
    made = [rng.integers(-2, 3, (count, dim)).astype(np.float32) for count in (6, n, 40, 13)]
    for descriptors in made[1:]:
        descriptors[rng.random(len(descriptors)) < 0.1, 0] = np.nan
        descriptors[rng.random(len(descriptors)) < 0.1] = 0
    made[0][0], made[0][1] = np.nan, 0
    return GroundTruth(tuple(map(str, range(n))), tuple(queries)), made[0], made[1], made[2:]


@pytest.mark.parametrize("seed", range(12))
def test_ties_nan_and_queries_without_positives_are_scored_as_by_sorting(seed: int) -> None:
    truth, queries, database, distractors = random_case(np.random.default_rng(seed))
    scores = score_revisited(truth, queries, database, distractors)
    similar = queries.astype(float) @ np.concatenate([database, *distractors]).astype(float).T
    rankings = np.argsort(-np.where(np.isnan(similar), -np.inf, similar), axis=1, kind="stable")
    is_lost = np.isnan(similar) | ~queries.any(axis=1)[:, None]
    is_lost |= ~np.concatenate([database, *distractors]).any(axis=1)

    def positives_last(row: int, positives: NDArray[np.int64]) -> NDArray[np.int64]:
        moved = is_lost[row, rankings[row]] & np.isin(rankings[row], positives)
        return np.concatenate([rankings[row][~moved], rankings[row][moved]])

    for name, (positive, junk) in PROTOCOLS.items():
        wanted = [
            official_scores(
                positives_last(row, query.indices(*positive)), query.indices(*positive), query.indices(*junk)
            )
            if len(query.indices(*positive))
            else None
            for row, query in enumerate(truth.queries)
        ]
        asked = [found for found in wanted if found is not None]
        aps = [np.nan if found is None else found[0] for found in wanted]
        np.testing.assert_allclose(scores[name].ap, aps, atol=1e-12, equal_nan=True)
        if asked:
            assert scores[name].mean_ap == pytest.approx(np.mean([ap for ap, _ in asked]), abs=1e-12)
            precision = np.mean([cuts for _, cuts in asked], axis=0)
            np.testing.assert_allclose(list(scores[name].precision.values()), precision, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_query_without_a_descriptor_gains_nothing_by_the_order_of_the_database(value: float) -> None:
    """Its positives are the first rows, and come last."""
    truth = GroundTruth(tuple("abcdef"), (BenchmarkQuery("q", None, (0, 1), (), ()),))
    database = np.eye(6, dtype=np.float32)
    query = np.full((1, 6), value, np.float32)
    dead = score_revisited(truth, query, database)["easy"].ap[0]
    worst = score_revisited(truth, np.array([[-2, -1, 0, 1, 2, 3]], np.float32), database)["easy"].ap[0]
    assert dead == worst
    assert score_revisited(truth, database[:1], database * value)["easy"].ap[0] == worst


def test_a_protocol_nobody_asks_in_has_no_scores() -> None:
    truth = GroundTruth(("a", "b"), (BenchmarkQuery("q", None, (1,), (), ()),))
    scores = score_revisited(truth, np.ones((1, 3), np.float32), np.ones((2, 3), np.float32))
    assert scores["easy"].mean_ap == 0.25  # row 0, which does not show the landmark, wins the tie
    assert np.isnan([scores["hard"].mean_ap, *scores["hard"].interval, scores["hard"].precision[5]]).all()


def test_descriptors_that_do_not_fit_are_told_by_name() -> None:
    truth = GroundTruth(("a", "b"), (BenchmarkQuery("q", None, (1,), (), ()),))
    descriptors = np.ones((2, 3), np.float32)
    with pytest.raises(GlamError, match="the ground truth needs 1 rows"):
        score_revisited(truth, descriptors, descriptors)
    with pytest.raises(GlamError, match="The distractors have 4 dimensions, but the queries have 3"):
        score_revisited(truth, descriptors[:1], descriptors, [np.ones((5, 4), np.float32)])


@pytest.mark.skipif(not MINI.is_dir(), reason="the benchmark's photographs are not in ../shared/roxford_mini")
def test_the_command_evaluates_a_model_on_the_benchmarks_images(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = ["eval", "revisited", "roxford5k", "--root", str(MINI), "--size", "96", "--json", str(out)]
    done = CliRunner().invoke(app, [*command, "--model", "timm:tf_efficientnet_lite0", "--scales", "1"])
    assert done.exit_code == 0, done.output
    assert "queries cropped" in " ".join(done.output.split())
    result = json.loads(out.read_text())
    assert result["protocol"].items() >= {"crop": True, "size": 96, "scales": [1.0], "distractors": 0}.items()
    assert len(result["model"]["fingerprint"]) == 16
    assert 0.1 < result["results"]["medium"]["map"] < 0.9
    low, high = result["results"]["medium"]["interval"]
    assert low < result["results"]["medium"]["map"] < high
    assert set(result["results"]["easy"]["mp"]) == {"1", "5", "10"}
    aps = result["results"]["easy"]["ap"]
    assert len(aps) == 10
    assert aps["bodleian_000107"] is None


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the ground truth is not in ../shared/revisitop")
def test_the_command_evaluates_anyones_descriptors(tmp_path: Path) -> None:
    vectors = str(GOLDEN / "vectors_roxford5k.npz")
    command = ["eval", "descriptors", "roxford5k", "--gnd", str(GOLDEN / "gnd_roxford5k.pkl"), "--queries", vectors]
    out = tmp_path / "result.json"
    done = CliRunner().invoke(app, [*command, "--database", f"{vectors}:database", "--json", str(out)])
    assert done.exit_code == 0, done.output
    expected = json.loads((GOLDEN / "golden.json").read_text())["roxford5k"]["plain"]["H"]
    result = json.loads(out.read_text())
    assert result["results"]["hard"]["map"] == pytest.approx(expected["map"], abs=1e-9)
    assert list(result["results"]["hard"]["ap"].values()) == pytest.approx(expected["ap"], abs=1e-9)
    assert result["protocol"]["crop"] is None
