"""Ground truth files: the published pickle, JSON, and malicious pickles."""

import json
import os
import pickle
from contextlib import suppress
from functools import reduce
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.errors import GlamError
from glam.eval.benchmark import open_benchmark
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth, read_ground_truth, write_ground_truth

SHARED = Path(__file__).resolve().parents[3] / "shared"

DEEP = reduce(lambda inner, _: [inner], range(300), [])
"""A list of a list of a list ..."""

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
        ({"bbx": [1, 2, float("nan"), 4]}, "expected a box"),
        ({"bbx": [1, 2, float("inf"), 4]}, "expected a box"),
        ({"bbx": [1, 2, 1, 4]}, "expected a box"),
        ({"bbx": [1, 2, 10**400, 4]}, "not a ground truth"),
        ({"bbx": 7}, "not a ground truth"),
        ({"easy": 7}, "not a ground truth"),
        ({"easy": [10**400]}, "not a ground truth"),
        ({"easy": [DEEP]}, "row of an image"),
        ({"easy": ["x" * 10**6]}, "row of an image"),
    ],
)
def test_contradictions_are_told(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match=complaint):
        read_ground_truth(pickled(tmp_path, published(**changes)))


QUERY = '{"format": 1, "images": ["a"], "queries": [%s]}'

OTHER_JSON = [
    "",
    "[]",
    "{",
    "7",
    "null",
    "[" * 200_000,
    '{"format": 2}',
    '{"format": 1}',
    '{"format": {}}',
    '{"format": 1, "images": 7, "queries": []}',
    '{"format": 1, "images": {}, "queries": 7}',
    *(f'{{"format": 1, "images": [{name}], "queries": []}}' for name in ("1", "[]", '""', '"a\\u0000"', '"\\ud800"')),
    *(f'{{"format": 1, "images": [{name}], "queries": []}}' for name in ('"../a"', '"/etc/a"', '"a/../../b"')),
    *(QUERY % query for query in ("7", "[]", '"q"', "{}", '{"name": []}', '{"name": "q", "easy": 7}')),
    *(QUERY % query for query in ('{"name": "q", "easy": [[]]}', '{"name": "q", "easy": [{}]}')),
    *(
        QUERY % (f'{{"name": "q", "box": {box}}}')
        for box in ("7", "[1]", "[1, 2, NaN, 4]", "[1, 2, 1e999, 4]", '"abcd"')
    ),
]


@pytest.mark.parametrize("content", OTHER_JSON, ids=lambda content: content[:60].replace("/", " "))
def test_other_json_is_refused_in_one_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "gnd.json"
    file.write_text(content)
    with pytest.raises(GlamError, match=r"gnd\.json") as refused:
        read_ground_truth(file)
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["gnd.json", "gnd.pkl"])
def test_what_is_not_a_ground_truth_file_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    for make in (file.mkdir, lambda: os.mkfifo(file), lambda: file.symlink_to("nowhere")):
        make()
        with pytest.raises(GlamError, match="cannot be opened"):
            read_ground_truth(file)
        file.rmdir() if file.is_dir() else file.unlink()


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(published())
    random = Random(0)
    spoilt = [content[:size] for size in range(len(content))]
    for _ in range(300):
        changed = bytearray(content)
        changed[random.randrange(len(content))] = random.randrange(256)
        spoilt.append(bytes(changed))
    for data in (*spoilt, b"(" * 100_000, b"]" * 100_000 + b"a" * 99_999 + b"."):
        (tmp_path / "gnd.pkl").write_bytes(data)
        with suppress(GlamError):  # some changes make another ground truth
            read_ground_truth(tmp_path / "gnd.pkl")


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
