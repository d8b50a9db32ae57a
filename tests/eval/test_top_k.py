"""mAP@k against the formula of the papers, written as loops, and the published files of GLDv2 and ILIAS."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.errors import GlamError
from glam.eval import average_precision_at, read_gldv2_retrieval, read_ilias, score_top_k, score_top_k_lists
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth
from glam.eval.top_k import TopKBenchmark

INDEX = ("00aa", "11bb", "22cc", "33dd")


def paper_ap(ranked: list[int], positives: set[int], k: int) -> float:
    """AP@k as in the paper: 1 / min(m, k) * sum over i <= k of P(i) rel(i)."""
    total = 0.0
    for i in range(1, min(k, len(ranked)) + 1):
        if ranked[i - 1] in positives:
            total += sum(row in positives for row in ranked[:i]) / i
    return total / min(len(positives), k)


def slow_ranking(query: NDArray[np.floating], database: NDArray[np.floating], positives: set[int]) -> list[int]:
    """Rows by score, then by row, NaN last; positives without a direction, or of such a query, after all others."""

    def place(row: int) -> tuple[bool, float, int]:
        score = math.fsum(float(a) * float(b) for a, b in zip(query, database[row], strict=True))
        is_lost = math.isnan(score) or not query.any() or not database[row].any()
        return (is_lost and row in positives, math.inf if math.isnan(score) else -score, row)

    return sorted(range(len(database)), key=place)


def benchmark_of(positives: list[list[int]], images: int, k: int, splits: tuple[str, ...] = ()) -> TopKBenchmark:
    queries = tuple(BenchmarkQuery(f"q{i}", None, tuple(rows), (), ()) for i, rows in enumerate(positives))
    return TopKBenchmark(GroundTruth(tuple(f"x{row}" for row in range(images)), queries), k, splits)


@pytest.mark.parametrize(
    ("ranks", "k", "expected"),
    [
        ([0, 2], 100, (1 / 1 + 2 / 3) / 2),
        ([0, 2], 2, (1 / 1) / 2),
        ([0, 1, 2, 5], 2, 1.0),
        ([3], 3, 0.0),
        ([0, 150, 151], 100, 1 / 3),
    ],
)
def test_average_precision_at_k_by_hand(ranks: list[int], k: int, expected: float) -> None:
    assert average_precision_at(np.array(ranks), k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 3, 8, 100])
@pytest.mark.parametrize("seed", range(4))
def test_descriptors_are_scored_as_by_the_paper(seed: int, k: int) -> None:
    """Small integers give ties that are exact; there are NaN and zero rows, and queries without a positive."""
    rng = np.random.default_rng(seed)
    queries, database = (rng.integers(-2, 3, size=(n, 3)).astype(np.float32) for n in (12, 30))
    for descriptors in (queries, database):
        descriptors[rng.random(len(descriptors)) < 0.15, 0] = np.nan
        descriptors[rng.random(len(descriptors)) < 0.15] = 0
    positives = [sorted(rng.choice(20, size=rng.integers(0, 7), replace=False).tolist()) for _ in queries]
    benchmark = benchmark_of(positives, 20, k, tuple(rng.choice(["public", "private"], size=12).tolist()))
    scores = score_top_k(benchmark, queries, database[:20], [database[20:26], database[26:]])
    expected = [
        paper_ap(slow_ranking(query, database, set(rows)), set(rows), k) if rows else np.nan
        for query, rows in zip(queries, positives, strict=True)
    ]
    np.testing.assert_allclose(scores["all"].ap, expected, rtol=1e-12, equal_nan=True)
    assert list(scores) == ["all", "private", "public"]
    for split in ("public", "private"):
        chosen = [ap for ap, of in zip(expected, benchmark.splits, strict=True) if of == split and not np.isnan(ap)]
        assert scores[split].mean_ap == pytest.approx(sum(chosen) / len(chosen))
        assert scores[split].interval[0] <= scores[split].mean_ap <= scores[split].interval[1]


@pytest.mark.parametrize("k", [2, 5, 100])
def test_results_are_scored_as_by_the_paper(k: int) -> None:
    rng = np.random.default_rng(k)
    positives = [rng.choice(20, size=size, replace=False).tolist() for size in (0, 1, 3, 4, 8)]
    lists = np.array([rng.permutation(np.r_[np.arange(20), np.full(5, -1)])[:10] for _ in positives])
    scores = score_top_k_lists(benchmark_of(positives, 20, k), lists)["all"]
    expected = [
        paper_ap(listed.tolist(), set(rows), k) if rows else np.nan
        for listed, rows in zip(lists, positives, strict=True)
    ]
    np.testing.assert_allclose(scores.ap, expected, rtol=1e-12, equal_nan=True)


def test_a_row_that_a_result_lists_again_counts_as_wrong() -> None:
    scores = score_top_k_lists(benchmark_of([[4, 5]], 6, 100), [np.array([4, 4, 5])])
    assert scores["all"].mean_ap == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_results_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GlamError, match="There are 1 results, but the ground truth has 2 queries"):
        score_top_k_lists(benchmark_of([[0], [1]], 2, 100), [np.array([0])])


def test_a_ground_truth_without_positives_is_refused() -> None:
    benchmark = benchmark_of([[], []], 2, 100)
    eye = np.eye(2, dtype=np.float32)
    with pytest.raises(GlamError, match="no query has a positive"):
        score_top_k(benchmark, eye, eye)
    with pytest.raises(GlamError, match="no query has a positive"):
        score_top_k_lists(benchmark, [np.array([0])] * 2)


@pytest.fixture
def gldv2(tmp_path: Path) -> Path:
    """The retrieval tables of GLDv2, small."""
    (tmp_path / "index.csv").write_text("\n".join(["id", *INDEX]) + "\n")
    solution = tmp_path / "retrieval_solution_v2.1.csv"
    solution.write_text(
        "id,images,Usage\r\nq1,22cc 00aa,Public\r\nq2,None,Ignored\r\nq3,11bb,Private\r\n\r\nq4,,Private\r\n"
    )
    return solution


def test_the_retrieval_solution_of_gldv2_is_read_without_its_ignored_queries(gldv2: Path) -> None:
    benchmark = read_gldv2_retrieval(gldv2)
    assert benchmark.truth.images == INDEX
    assert [(query.name, query.easy) for query in benchmark.truth.queries] == [("q1", (2, 0)), ("q3", (1,)), ("q4", ())]
    assert (benchmark.k, benchmark.splits) == (100, ("public", "private", "private"))


def test_the_order_of_the_database_may_be_that_of_the_table_of_landmarks(gldv2: Path) -> None:
    table = gldv2.with_name("index_image_to_landmark.csv")
    table.write_text("id,landmark_id\n" + "".join(f"{id},7\n" for id in reversed(INDEX)))
    benchmark = read_gldv2_retrieval(gldv2, table)
    assert benchmark.truth.images == INDEX[::-1]
    assert benchmark.truth.queries[0].easy == (1, 3)


def test_a_query_may_have_more_images_than_the_csv_module_takes_in_a_field(tmp_path: Path) -> None:
    ids = [f"{i:016x}" for i in range(10_000)]
    (tmp_path / "index.csv").write_text("\n".join(["id", *ids]))
    (tmp_path / "solution.csv").write_text(f"id,images,Usage\nq1,{' '.join(ids)},Public\n")
    assert len(read_gldv2_retrieval(tmp_path / "solution.csv").truth.queries[0].easy) == 10_000


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("id,landmarks,Usage\nq1,1,Public\n", "has the columns"),
        ("", "has the columns"),
        ("id,images,Usage\nq1,00aa,Public\nq2,00aa\n", "line 3 has 2 of 3 columns"),
        ("id,images,Usage\nq1,00aa,Test\n", "line 2 has the Usage 'Test'"),
        ("id,images,Usage\nq1,00aa,Public\nq1,,Ignored\n", "line 3 lists the id 'q1' again"),
        ("id,images,Usage\nq1,00aa 11bb 00aa,Public\n", "line 2 lists one of the images twice"),
        ("id,images,Usage\n\nq1,00aa 99zz,Public\n", "line 3 names the image '99zz', which is not in the index"),
        ("id,images,Usage\nq1,../x,Public\n", "line 2 has '../x' in place of an id"),
        ('id,images,Usage\n"q1",00aa,Public\n', "line 2 has '\"q1\"' in place of an id"),
    ],
)
def test_a_damaged_solution_is_refused_with_its_line(gldv2: Path, solution: str, message: str) -> None:
    gldv2.write_text(solution)
    with pytest.raises(GlamError, match=message):
        read_gldv2_retrieval(gldv2)


@pytest.mark.parametrize(
    ("index", "message"),
    [("url\nx\n", "the first must be 'id'"), ("id\n00aa\n\n\nx/y\n", "line 5"), ("id\n00aa\n00aa\n", "'00aa' again")],
)
def test_a_damaged_index_is_refused(gldv2: Path, index: str, message: str) -> None:
    (gldv2.parent / "index.csv").write_text(index)
    with pytest.raises(GlamError, match=message):
        read_gldv2_retrieval(gldv2)


def test_a_missing_index_is_named(gldv2: Path) -> None:
    (gldv2.parent / "index.csv").unlink()
    with pytest.raises(GlamError, match=r"index\.csv cannot be opened"):
        read_gldv2_retrieval(gldv2)


@pytest.fixture
def ilias(tmp_path: Path) -> Path:
    """The lists of ids of ILIAS, small."""
    (tmp_path / "positive_ids.txt").write_text(
        "cup_000/pos/P0.jpg,0.1,4\ncup_000/pos/P1.jpg,0.3,60\nmug_001/pos/P0.jpg,0,1\n"
    )
    (tmp_path / "text_query_ids.txt").write_text("mug_001/query/T001.txt\ncup_000/query/T000.txt\n")
    queries = tmp_path / "image_query_ids.txt"
    queries.write_text(
        "cup_000/query/Q0.jpg,1\nmug_001/query/Q0.jpg,1\nmug_001/query/Q1.jpg,1\nhat_002/query/Q0.jpg,1\n"
    )
    return queries


def test_positives_of_ilias_are_the_images_of_the_instance(ilias: Path) -> None:
    benchmark = read_ilias(ilias)
    assert benchmark.truth.images[2] == "mug_001/pos/P0.jpg"
    assert [query.easy for query in benchmark.truth.queries] == [(0, 1), (2,), (2,), ()]
    assert (benchmark.k, benchmark.splits) == (1000, ())
    assert list(score_top_k_lists(benchmark, [np.array([0])] * 4)) == ["all"]


def test_text_queries_of_ilias_have_the_same_positives(ilias: Path) -> None:
    assert [q.easy for q in read_ilias(ilias.with_name("text_query_ids.txt")).truth.queries] == [(2,), (0, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cup_000/pos/P0.jpg,1\ncup_000\n", "line 2 has 'cup_000' in place of INSTANCE/IMAGE"),
        ("/P0.jpg\n", "line 1 has '/P0.jpg'"),
        ("cup/P0.jpg,1\n\ncup/P0.jpg,2\n", "line 3 lists 'cup/P0.jpg' again"),
        ("\n", "is empty"),
    ],
)
@pytest.mark.parametrize("name", ["image_query_ids.txt", "positive_ids.txt"])
def test_a_damaged_list_of_ilias_is_refused_with_its_line(ilias: Path, name: str, text: str, message: str) -> None:
    ilias.with_name(name).write_text(text)
    with pytest.raises(GlamError, match=f"{name}.*{message}"):
        read_ilias(ilias)


def run(folder: Path, *options: str) -> str:
    arrays = ["--queries", str(folder / "q.npy"), "--database", str(folder / "x.npy")]
    result = CliRunner().invoke(app, ["eval", "descriptors", "mine", *options, *arrays], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_evaluates_gldv2_retrieval(gldv2: Path) -> None:
    np.save(gldv2.parent / "x.npy", np.eye(4, dtype=np.float32))
    np.save(gldv2.parent / "q.npy", np.array([[0.1, 0.5, 0.9, 0], [0, 1, 0, 0], [1, 0, 0, 0]], np.float32))
    options = ["--protocol", "gldv2-retrieval", "--gnd", str(gldv2)]
    result = json.loads(run(gldv2.parent, *options, "--json"))
    assert result["protocol"]["metric"] == "mAP@100"
    assert result["results"]["all"]["ap"] == {"q1": pytest.approx((1 + 2 / 3) / 2), "q3": 1, "q4": None}
    assert result["results"]["private"]["ap"] == {"q1": None, "q3": 1, "q4": None}
    assert "mAP@100" in run(gldv2.parent, *options)


def test_the_command_evaluates_ilias_with_distractors(ilias: Path) -> None:
    np.save(ilias.parent / "x.npy", np.eye(3, dtype=np.float32))
    np.save(ilias.parent / "q.npy", np.eye(3, dtype=np.float32)[[0, 2, 1, 0]])
    np.save(ilias.parent / "d.npy", np.array([[2, 0, 0]], np.float32))
    options = ["--protocol", "ilias", "--gnd", str(ilias), "--distractors", str(ilias.parent / "d.npy")]
    ap = json.loads(run(ilias.parent, *options, "--json"))["results"]["all"]["ap"]
    assert list(ap.values()) == [pytest.approx((1 / 2 + 2 / 3) / 2), 1, pytest.approx(1 / 3), None]
