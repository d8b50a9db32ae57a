"""Evaluation of an index and a service, compared with exact ranking of the same descriptors."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import glam
from glam.app.cli.main import app
from glam.app.service.app import create_app
from glam.app.service.middleware.auth import Access
from glam.datasets.collection import Collection
from glam.datasets.readers import read_collection, read_folder
from glam.errors import GlamError
from glam.eval.benchmark import Benchmark
from glam.eval.folder import evaluate_folder
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth
from glam.eval.result_lists import NOT_FOUND, found_ranks, score_folder_lists, score_revisited_lists
from glam.eval.search_evaluation import find_images, rank_folder, search_benchmark, search_folder
from glam.eval.searcher import IndexSearcher
from glam.index import Index, build, remove
from glam.index.limits import IndexLimits
from glam.index.rerank.chain import parse_chain
from glam.inference.pipeline import Settings

MINI = Path(__file__).resolve().parents[3] / "shared" / "roxford_mini"
Draw = Callable[..., Image.Image]


def rows(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def test_a_positive_outside_the_list_is_not_found() -> None:
    ranks = found_ranks(rows(4, -1, 9, 2), rows(2, 3, 4), rows(9))
    assert ranks.tolist() == [0, 2, NOT_FOUND], "the junk is left out, the distractor counts"


def test_the_ap_of_a_cut_list_counts_what_is_not_found_as_zero() -> None:
    landmark_ids = np.array([0, 0, 0, -1])
    lists = [rows(1, 3), rows(0, 2), rows(3), rows(0, 1, 2)]
    scores = score_folder_lists(lists, landmark_ids)
    assert scores.ap[:3] == pytest.approx([0.5, 1.0, 0.0])
    assert np.isnan(scores.ap[3]), "an image without a landmark is no query"
    assert scores.recall_at_1 == pytest.approx(2 / 3)


def test_protocols_take_their_own_junk_out_of_the_list() -> None:
    truth = GroundTruth(tuple("abcd"), (BenchmarkQuery("q", None, (0,), (1,), (2,)),))
    scores = score_revisited_lists(truth, [rows(1, 2, -1, 0)])
    assert scores["easy"].mean_ap == pytest.approx((0 / 1 + 1 / 2) / 2)
    assert scores["hard"].mean_ap == pytest.approx(1.0)
    assert scores["medium"].mean_ap == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three landmarks of four images, and eight distractors, in one folder."""
    for number in range(12):
        file = tmp_path / "photos" / "val" / f"landmark{number % 3}" / f"{number:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([number]))
    (tmp_path / "photos" / "others").mkdir()
    for number in range(8):
        (tmp_path / "photos" / "others" / f"{number}.jpg").write_bytes(bytes([100 + number]))
    return tmp_path / "photos"


@pytest.fixture
def searcher(root: Path, tmp_path: Path, content_model: Any) -> Iterator[IndexSearcher]:
    build(tmp_path / "i.glam", read_folder(root), content_model)
    with Index.open(tmp_path / "i.glam") as index:
        yield IndexSearcher(index, model=content_model)


def test_an_exact_index_loses_nothing(searcher: IndexSearcher, root: Path, content_model: Any) -> None:
    collection = read_folder(root / "val")
    search, report = search_folder(searcher, collection), rank_folder(searcher, collection)
    assert search.scores.ap == pytest.approx(report.scores.ap, abs=1e-12)
    assert search.scores.interval == pytest.approx(report.scores.interval)
    assert search.searched == {
        "index": "i.glam", "structure": "exact", "service": None, "rerank": None, "depth": 20,
    }  # fmt: skip
    described = evaluate_folder(content_model, collection, read_folder(root / "others"))
    assert report.scores.ap == pytest.approx(described.scores.ap)
    assert (report.paths, report.distractors) == (described.paths, 8)


def test_a_query_never_finds_itself(searcher: IndexSearcher, root: Path) -> None:
    ids = find_images(searcher, [root / "val" / "landmark0" / "00.jpg"])
    chained = IndexSearcher(searcher.index, parse_chain("aqe:k=2"))
    for either in (searcher, chained):
        found = either.search_image(ids[0], 19)
        assert ids[0] not in found
        assert len(set(found)) == 19, "all the others"
        assert len(either.search_image(ids[0], 5)) == 5


def test_a_chain_reranks_by_the_index(searcher: IndexSearcher, root: Path) -> None:
    collection, chain = read_folder(root / "val"), parse_chain("superglobal")
    search = search_folder(IndexSearcher(searcher.index, chain), collection)
    assert search.searched["rerank"] == str(chain)
    assert search.scores.ap.tolist() != search_folder(searcher, collection).scores.ap.tolist()


def test_images_are_matched_by_content_where_their_paths_differ(
    searcher: IndexSearcher, root: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root / "val", copy)
    files = sorted(copy.rglob("*.jpg"))
    same = [root / "val" / file.relative_to(copy) for file in files]
    assert find_images(searcher, files) == find_images(searcher, same)
    (copy / "landmark0" / "00.jpg").write_bytes(b"changed")
    (copy / "landmark0" / "new.jpg").write_bytes(b"new")
    with pytest.raises(GlamError, match=r"2 of 13 images are not in the index, the first is .*00.jpg"):
        search_folder(searcher, read_folder(copy))


def test_a_removed_image_is_missing(searcher: IndexSearcher, root: Path) -> None:
    remove(searcher.index.path, ["val/landmark0/00.jpg"])
    with Index.open(searcher.index.path) as index, pytest.raises(GlamError, match="1 of 12 images are not in"):
        find_images(IndexSearcher(index), sorted((root / "val").rglob("*.jpg")))


def test_a_benchmark_is_searched_with_its_crops(root: Path) -> None:
    images = tuple(sorted((root / "val" / "landmark0").glob("*.jpg")))
    truth = GroundTruth(tuple(file.stem for file in images), (BenchmarkQuery("q", (0, 0, 9, 9), (1,), (2,), (0,)),))
    benchmark = Benchmark("own", truth, images, (images[0],))
    asked: list[Any] = []

    class Recorder:
        """A searcher that returns its images in the order of their image_ids."""

        @property
        def description(self) -> dict[str, Any]:
            return {}

        def __len__(self) -> int:
            return 9

        def image_ids(self, files: Sequence[Path]) -> list[int | None]:
            return [10 + row for row, _ in enumerate(files)]

        def search_image(self, image_id: int, depth: int) -> list[int]:
            raise AssertionError("queries of a benchmark are files")

        def search_file(self, file: Path, box: Any, depth: int) -> list[int]:
            asked.append((file, box, depth))
            return [7, 10, 11]

    cropped = search_benchmark(Recorder(), benchmark, depth=4)
    search_benchmark(Recorder(), benchmark, crop=False)
    assert asked == [(images[0], (0, 0, 9, 9), 4), (images[0], None, 9)]
    assert cropped.searched == {"depth": 4}
    assert cropped.scores["easy"].mean_ap == pytest.approx((0 + 1 / 2) / 2), "one distractor before it, junk left out"
    assert cropped.scores["hard"].mean_ap == pytest.approx(0)


def evaluate(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    return done.exit_code, " ".join(f"{done.output} {done.exception}".split())


def test_photographs_in_inverted_lists(photographs: Path, tmp_path: Path) -> None:
    """The command searches the saved structure and reports its loss compared with exact ranking."""
    root = tmp_path / "photos"
    root.mkdir()
    (root / "val").symlink_to(photographs / "val")
    (root / "distractors").symlink_to(photographs / "distractors")
    val, others = read_folder(photographs / "val"), read_folder(photographs / "distractors")
    images = [
        image._replace(path=f"{name}/{image.path}")
        for name, part in (("val", val), ("distractors", others))
        for image in part.images
    ]
    model, index = glam.load("timm:tf_efficientnet_lite0", "cpu"), tmp_path / "i.glam"
    limits = IndexLimits(exact_below=100)
    build(
        index,
        Collection(root, tuple(images)),
        model,
        settings=Settings(64, workers=2),
        structure="ivf_pq",
        limits=limits,
    )
    out = tmp_path / "out.json"
    code, output = evaluate("folder", photographs / "val", "--index", index, "--json", out)
    assert code == 0, output
    assert "exact mAP searched mAP difference" in output
    result = json.loads(out.read_text())
    searched = result["searched"]
    assert [searched[key] for key in ("index", "structure", "service", "depth")] == ["i.glam", "ivf_pq", None, 922]
    assert result["protocol"]["distractors"] == 600
    exact, found = result["results"], searched["results"]
    assert found["ap"].keys() == exact["ap"].keys()
    assert exact["map"] - 0.02 < found["map"] <= exact["map"] + 0.005
    _, output = evaluate("folder", photographs / "val", "--index", index, "--depth", 5, "--json", out)
    cut = json.loads(out.read_text())
    assert cut["results"]["map"] == exact["map"]
    assert cut["searched"]["results"]["map"] < exact["map"] - 0.02, "most landmarks have more than five other images"
    left_out = val.landmarks[0]
    _, output = evaluate("folder", photographs / "val", "--index", index, "--exclude", f"/{left_out}/", "--out", out)
    fewer = json.loads(out.read_text())
    assert fewer["skipped"]["excluded"] == 1
    assert fewer["results"]["ap"].keys() == {path for path in exact["ap"] if not path.startswith(f"{left_out}/")}
    for options, sentence in [
        (("--distractors", photographs / "distractors"), "Leave out --distractors"),
        (("--size", 96), "Leave out --size"),
        (("--service", "http://localhost:1"), "exclude each other"),
    ]:
        assert sentence in evaluate("folder", photographs / "val", "--index", index, *options)[1]


@pytest.mark.skipif(not MINI.is_dir(), reason="the benchmark's photographs are not in ../shared/roxford_mini")
def test_a_benchmark_in_an_index(tmp_path: Path) -> None:
    model, index, out = glam.load("timm:tf_efficientnet_lite0", "cpu"), tmp_path / "i.glam", tmp_path / "out.json"
    build(index, read_folder(MINI / "db"), model, settings=Settings(64, workers=2))
    command = ("revisited", "roxford5k", "--root", MINI, "--model", "timm:tf_efficientnet_lite0", "--index", index)
    code, output = evaluate(*command, "--json", out)
    assert code == 0, output
    assert "queries cropped" in output
    result = json.loads(out.read_text())
    assert [result["protocol"][key] for key in ("crop", "size", "rerank")] == [True, 64, None]
    for name in ("easy", "medium", "hard"):
        exact, found = result["results"][name], result["searched"]["results"][name]
        assert found["map"] == pytest.approx(exact["map"], abs=1e-9), "an exact structure loses nothing"
        assert found["mp"] == pytest.approx(exact["mp"])
    assert "cannot be compared with it" in evaluate(*command[:4], "--model", "glam-lite0", "--index", index)[1]


def test_a_service_is_evaluated_through_its_api(
    tmp_path: Path, draw_image: Draw, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    for seed in range(10):
        file = root / ("val" if seed < 8 else "others") / f"landmark{seed % 2}" / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_image(64, 48, seed).save(file)
    model, index = glam.load("timm:tf_efficientnet_lite0", "cpu"), tmp_path / "i.glam"
    build(index, read_collection(root), model, settings=Settings(64, workers=1))
    service = create_app(Index.open(index), model, access=Access("read", None, loopback_only=True), owns_index=True)
    out = tmp_path / "out.json"
    command = ("folder", root / "val", "--model", "timm:tf_efficientnet_lite0", "--size", 64, "--json", out)
    with serve(service, 5) as (port, _):
        url = f"http://127.0.0.1:{port}"
        others = ("--service", url, "--token", "read", "--distractors", root / "others")
        code, output = evaluate(*command, *others)
        assert code == 0, output
        result = json.loads(out.read_text())
        assert [result["searched"][key] for key in ("service", "depth", "rerank")] == [url, 10, None]
        assert result["searched"]["results"]["ap"] == pytest.approx(result["results"]["ap"])
        code, output = evaluate(*command, *others, "--rerank", "aqe:k=2", "--depth", 6)
        assert code == 0, output
        assert json.loads(out.read_text())["searched"]["depth"] == 6
        code, output = evaluate(*command, "--service", url, "--token", "read")
        assert "searches 10 images, and exact ranking 8" in output
        draw_image(64, 48, 77).save(root / "val" / "landmark0" / "new.png")
        assert "1 of 9 images are not in the index" in evaluate(*command, *others)[1]
