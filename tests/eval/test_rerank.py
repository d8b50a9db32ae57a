"""Re-ranking in evaluations: one list for all protocols, from a database without the query itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.datasets.readers import read_collection
from glam.eval.folder import evaluate_folder, score_folder
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth, write_ground_truth
from glam.eval.metrics import average_precision
from glam.eval.report import folder_result
from glam.eval.rerank import local_features_of
from glam.eval.revisitop import PROTOCOLS, score_revisited
from glam.index.rerank import base
from glam.index.rerank.chain import parse_chain
from glam.index.rerank.memory_database import MemoryDatabase

Descriptors = NDArray[np.float32]


def random_descriptors(count: int, dim: int, seed: int) -> Descriptors:
    descriptors = np.random.default_rng(seed).normal(size=(count, dim))
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)


def slow_ap(ranking: list[int], positive: set[int], junk: set[int]) -> float:
    left = [image for image in ranking if image not in junk]
    return average_precision(np.array([rank for rank, image in enumerate(left) if image in positive]))


def behind(listed: list[int], scores: NDArray[np.floating]) -> list[int]:
    """The listed rows, then all others in the order of plain search."""
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable").tolist()
    return listed + [image for image in order if image not in listed]


@pytest.mark.parametrize("seed", range(8))
def test_every_protocol_scores_the_same_list(seed: int) -> None:
    """There are ties, NaN, and distractors; a list has any rows, in any order, and alone finds positives with NaN."""
    generator = np.random.default_rng(seed)
    made = [generator.integers(-2, 3, (count, 4)).astype(np.float32) for count in (5, 60, 30, 10)]
    for descriptors in made[1:]:
        descriptors[~descriptors.any(axis=1), 0] = 1
        descriptors[generator.random(len(descriptors)) < 0.1, 0] = np.nan
    grades = [np.split(generator.permutation(60)[:18], np.sort(generator.integers(1, 18, 2))) for _ in range(5)]
    queries = tuple(
        BenchmarkQuery(str(q), None, *(tuple(part.tolist()) for part in parts)) for q, parts in enumerate(grades)
    )
    lists = [generator.permutation(100)[: 20 * q] for q in range(5)]  # the first list is empty
    scores = score_revisited(GroundTruth(tuple(map(str, range(60))), queries), *made[:2], made[2:], lists=lists)
    similar = made[0].astype(float) @ np.concatenate(made[1:]).astype(float).T
    for name, (positive, junk) in PROTOCOLS.items():
        for q, query in enumerate(queries):
            wanted = set(query.indices(*positive).tolist())
            ranking = behind(lists[q].tolist(), similar[q])
            lost = wanted & set(np.flatnonzero(np.isnan(similar[q])).tolist()) - set(lists[q].tolist())
            ranking = [image for image in ranking if image not in lost] + sorted(lost)
            expected = slow_ap(ranking, wanted, set(query.indices(*junk).tolist())) if wanted else np.nan
            assert scores[name].ap[q] == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_a_folders_lists_come_before_its_scores() -> None:
    descriptors, landmark_ids = random_descriptors(24, 6, 0), np.arange(24) % 5
    lists = [np.random.default_rng(q).permutation(24)[:9] for q in range(24)]
    found = score_folder(descriptors, landmark_ids, None, lists).ap
    for q in range(24):
        positive = set(np.flatnonzero(landmark_ids == landmark_ids[q]).tolist()) - {q}
        assert found[q] == pytest.approx(
            slow_ap(behind(lists[q].tolist(), descriptors @ descriptors[q]), positive, {q})
        )


@pytest.mark.parametrize("text", ["aqe:k=2", "dba:k=3", "superglobal,reciprocal:k=4"])
def test_a_query_of_a_folder_is_asked_of_a_database_without_it(text: str, content_model: Any, tmp_path: Path) -> None:
    """The result is that of a database built without the query, which would otherwise be a neighbor of others."""
    for number in range(12):
        file = tmp_path / f"landmark{number % 3}" / f"{number:02}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([number]))
    collection, chain = read_collection(tmp_path), parse_chain(text)
    report = evaluate_folder(content_model, collection, chain=chain)
    assert report.rerank == str(chain)
    descriptors = np.stack([content_model.descriptor(collection.file(i).read_bytes()) for i in range(12)])
    for q in range(12):
        others = np.delete(np.arange(12), q)
        listed = others[chain.search(base.Query(descriptors[q]), MemoryDatabase([descriptors[others]]), 12).rows]
        positive = set(np.flatnonzero(collection.landmark_ids == collection.landmark_ids[q]).tolist()) - {q}
        assert report.scores.ap[q] == pytest.approx(slow_ap(listed.tolist(), positive, set()))
    result = folder_result("made", report, content_model, content_model.settings())
    assert result["protocol"]["rerank"] == str(chain)


def test_local_features_are_made_once_and_only_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((64, 48), 80).save(tmp_path / "a.png")
    features = local_features_of([tmp_path / "a.png"])
    assert features(0) is features(0)
    with pytest.raises(Exception, match="Distractors that are only descriptors have no local features"):
        features(1)


def evaluate(folder: Path, *options: str) -> tuple[int, str]:
    command = ["eval", "descriptors", "made", "--gnd", str(folder / "gnd.json"), *options]
    command += ["--queries", str(folder / "queries.npy"), "--database", str(folder / "database.npy")]
    done = CliRunner().invoke(app, command)
    return done.exit_code, " ".join(f"{done.output} {done.exception}".split())


def test_the_command_reranks_anyones_descriptors(tmp_path: Path) -> None:
    truth = GroundTruth(tuple(map(str, range(30))), (BenchmarkQuery("q", None, (3, 4), (5,), (6,)),))
    write_ground_truth(tmp_path / "gnd.json", truth)
    queries, database = random_descriptors(1, 8, 1), random_descriptors(30, 8, 2)
    np.save(tmp_path / "queries.npy", queries.astype(np.float16))
    np.save(tmp_path / "database.npy", database.astype(np.float64))
    code, output = evaluate(tmp_path, "--rerank", "aqe:k=3", "--json", str(tmp_path / "out.json"))
    assert code == 0, output
    assert "re-ranked by aqe:k=3" in output
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["protocol"]["rerank"].startswith("aqe:k=3:")
    asking = base.Query(queries[0].astype(np.float16).astype(np.float32))
    ranking = parse_chain("aqe:k=3").search(asking, MemoryDatabase([database]), 30).rows.tolist()
    assert result["results"]["easy"]["ap"]["q"] == pytest.approx(slow_ap(ranking, {3, 4}, {5, 6}))
    assert result["results"]["medium"]["ap"]["q"] == pytest.approx(slow_ap(ranking, {3, 4, 5}, {6}))
    assert "There is no re-ranking step 'qe'" in evaluate(tmp_path, "--rerank", "qe")[1]
    assert "this query is only a descriptor. Search with an image" in evaluate(tmp_path, "--rerank", "geometric")[1]
    np.save(tmp_path / "database.npy", 2 * database)
    assert "of the images do not have unit length" in evaluate(tmp_path, "--rerank", "aqe")[1]
