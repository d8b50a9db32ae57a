"""Ground truth files: the published pickle, JSON, and malicious pickles."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.errors import GlamError
from glam.eval.benchmark import open_benchmark
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth, read_ground_truth, write_ground_truth

SHARED = Path(__file__).resolve().parents[3] / "shared"

TRUTH = GroundTruth(
    ("a", "b", "é", "d"),
    (BenchmarkQuery("q1", (1, 2.5, 30, 40), (2, 0), (3,), ()), BenchmarkQuery("q2", None, (), (1,), (0,))),
)


def published(**changes: Any) -> dict[str, Any]:
    entry = {"bbx": [0, 0, 10.5, 10], "easy": [0], "hard": [1], "junk": []}
    return {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [{**entry, **changes}]}


def pickled(folder: Path, value: object) -> Path:
    file = folder / "gnd_own.pkl"
    file.write_bytes(pickle.dumps(value))
    return file


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "gnd.json"
    write_ground_truth(file, TRUTH)
    assert read_ground_truth(file) == TRUTH
    assert json.loads(file.read_text(encoding="utf-8"))["queries"][0]["easy"] == ["é", "a"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published ground truth is not in ../shared/revisitop")
@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_the_published_pickle_survives_json_and_back(name: str, tmp_path: Path) -> None:
    source = SHARED / "revisitop" / f"gnd_{name}.pkl"
    for command in ([str(source), str(tmp_path / "g.json")], [str(tmp_path / "g.json"), str(tmp_path / "g.pkl")]):
        assert CliRunner().invoke(app, ["eval", "convert", *command]).exit_code == 0
    assert pickle.loads((tmp_path / "g.pkl").read_bytes()) == pickle.loads(source.read_bytes())


def test_a_pickle_that_is_a_program_is_refused_and_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/run",)

    for value in (Payload(), published(easy=Payload())):
        with pytest.raises(GlamError, match="system"):
            read_ground_truth(pickled(tmp_path, value))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"easy": [2]}, "outside the 2"),
        ({"easy": [-1]}, "outside the 2"),
        ({"easy": [0, 1]}, "1 is listed twice"),
        ({"easy": [0.5]}, "row of an image"),
        ({"bbx": [1, 2, 3]}, "not a ground truth"),
        ({"bbx": ["1", 2, 3, 4]}, "expected a box"),
    ],
)
def test_contradictions_are_told(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match=complaint):
        read_ground_truth(pickled(tmp_path, published(**changes)))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 2}', '{"format": 1}', '{"format": 1, "images": [1]}'])
def test_other_json_is_refused_in_one_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "gnd.json"
    file.write_text(content)
    with pytest.raises(GlamError, match=r"gnd\.json"):
        read_ground_truth(file)


def test_an_unknown_name_is_told_with_its_query(tmp_path: Path) -> None:
    file = tmp_path / "gnd.json"
    file.write_text('{"format": 1, "images": ["a"], "queries": [{"name": "q", "easy": ["b"]}]}')
    with pytest.raises(GlamError, match="the query 'q': 'b' is missing"):
        read_ground_truth(file)


def test_a_pickle_cannot_say_that_a_query_has_no_box(tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="'q2' has no box"):
        write_ground_truth(tmp_path / "g.pkl", TRUTH)


@pytest.mark.parametrize("truth_path", ["gnd_own.json", "own/gnd_own.json", "gnd_own_mini.json"])
@pytest.mark.parametrize("folders", [("jpg",), ("db", "queries")])
def test_a_benchmark_is_found_in_either_layout(truth_path: str, folders: tuple[str, ...], tmp_path: Path) -> None:
    home = (tmp_path / truth_path).parent
    write_ground_truth(tmp_path / truth_path, TRUTH)
    for folder in folders:
        (home / folder).mkdir()
    for image in TRUTH.images:
        (home / folders[0] / f"{image}.jpg").touch()
    for query in TRUTH.queries:
        (home / folders[-1] / f"{query.name}.webp").touch()
    found = open_benchmark("own", tmp_path)
    assert found.images[2] == home / folders[0] / "é.jpg"
    assert found.queries[1] == home / folders[-1] / "q2.webp"


def test_missing_images_are_counted(tmp_path: Path) -> None:
    write_ground_truth(tmp_path / "gnd_own.json", TRUTH)
    (tmp_path / "jpg").mkdir()
    (tmp_path / "jpg" / "a.jpg").touch()
    with pytest.raises(GlamError, match="3 of 4 images are not in it, the first is 'b'"):
        open_benchmark("own", tmp_path)
    with pytest.raises(GlamError, match="contains no ground truth"):
        open_benchmark("other", tmp_path)
