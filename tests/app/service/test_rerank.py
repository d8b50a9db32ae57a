"""Re-ranking from the library, the command line and the service: one chain, one list; and what the service refuses."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import glam
from glam.app.cli.main import app as commands
from glam.app.service.app import create_app
from glam.app.service.image_files import IndexedFiles
from glam.app.service.memory_budget import MemoryBudget
from glam.app.service.routes import search
from glam.app.service.settings import ServiceLimits
from glam.datasets.readers import read_folder
from glam.images import read_image
from glam.index import Hit, Index, build, precompute
from glam.index.limits import IndexLimits
from glam.index.local_matching.rootsift import extract
from glam.index.rerank.base import Query
from glam.inference.pipeline import Settings
from glam.model import Model

LANDMARKS, INDEXED, SIZE = ("cologne_cathedral", "petra", "stonehenge"), 8, 160
CHAINS = (
    "aqe",
    "dba",
    "diffusion",
    "reciprocal",
    "superglobal",
    "geometric:depth=12:least=4",
    "aqe,diffusion,geometric",
)
BOX = (10.0, 20.0, 130.0, 140.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return glam.load("glam-lite0", "cpu")


@pytest.fixture(scope="module")
def folder(photographs: Path, tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    """A folder with images, some of them in an index, and one that is not: query.jpg."""
    root = tmp_path_factory.mktemp("rerank")
    for landmark in LANDMARKS:
        (root / "images" / landmark).mkdir(parents=True)
        *files, last = sorted((photographs / "val" / landmark).iterdir())[: INDEXED + 1]
        for file in files:
            shutil.copyfile(file, root / "images" / landmark / file.name)
    shutil.copyfile(last, root / "query.jpg")
    build(root / "i.glam", read_folder(root / "images"), model, settings=Settings(SIZE, workers=1))
    precompute(root / "i.glam", local_features=True, knn_graph=True)
    return root


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Index]:
    with Index.open(folder / "i.glam") as opened:
        yield opened


@pytest.fixture(scope="module")
def client(index: Index, model: Model) -> Iterator[TestClient]:
    with TestClient(create_app(index, model)) as client:
        yield client


def in_library(index: Index, model: Model, file: Path, chain: str, box: Any = None, **options: Any) -> list[Hit]:
    descriptor = model.describe([file], boxes=[box], size=index.size, scales=index.scales)[0]
    query = Query(descriptor, lambda: extract(read_image(file), box=box))
    return index.search(query, 20, rerank=chain, **options)[0]


def asked(client: TestClient, file: Path, **fields: Any) -> Any:
    return client.post("/api/search", files={"image": ("query.jpg", file.read_bytes())}, data={"top": 20, **fields})


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [result["image"]["image_id"] for result in answer.json()["results"]]


def sentence(answer: Any) -> str:
    assert answer.status_code == 422, answer.text
    return str(answer.json()["detail"])


@pytest.mark.parametrize("chain", CHAINS)
def test_one_chain_gives_one_list_everywhere(
    folder: Path, index: Index, model: Model, client: TestClient, chain: str
) -> None:
    file = folder / "query.jpg"
    for where, box in ((None, None), ("landmark != 'petra'", BOX)):
        expected = in_library(index, model, file, chain, box, where=where)
        options = [*(("--where", where) if where else ()), *(("--bbox", *map(str, box)) if box else ())]
        search = ["search", str(index.path), str(file), "--rerank", chain, "--top", "20", "--device", "cpu", "--json"]
        printed = CliRunner().invoke(commands, [*search, *options], catch_exceptions=False)
        assert printed.exit_code == 0, printed.output
        assert [row["image_id"] for row in json.loads(printed.stdout)] == [hit.image_id for hit in expected]
        fields = {"where": where or "", **(dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) if box else {})}
        answer = asked(client, file, rerank=chain, **fields)
        assert ids(answer) == [hit.image_id for hit in expected]
        scores = [result["score"] for result in answer.json()["results"]]
        assert scores == pytest.approx([hit.score for hit in expected], abs=1e-4)


def test_an_indexed_query_is_not_in_its_own_list(index: Index, model: Model, client: TestClient) -> None:
    for chain in CHAINS:
        found = ids(client.get("/api/images/3/search", params={"rerank": chain, "top": 20}))
        query = Query(index.descriptor(3), lambda: extract(read_image(index.file(3))))
        (hits,) = index.search(query, 21, rerank=chain)
        assert found == [hit.image_id for hit in hits if hit.image_id != 3][:20]
    boxed = {"x1": 10, "y1": 20, "x2": 130, "y2": 140, "rerank": "geometric", "top": 20}
    expected = in_library(index, model, index.file(3), "geometric", BOX)
    assert ids(client.get("/api/images/3/search", params=boxed))[:19] == [
        hit.image_id for hit in expected if hit.image_id != 3
    ]


def test_an_upload_is_read_once_and_compared_by_its_local_features(
    folder: Path, index: Index, model: Model, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    usual = search.upload_bytes

    def note(*arguments: Any) -> bytes:
        reads.append(len(reads))
        return usual(*arguments)

    monkeypatch.setattr(search, "upload_bytes", note)
    expected = [hit.image_id for hit in in_library(index, model, folder / "query.jpg", "geometric:depth=12:least=4")]
    assert ids(asked(client, folder / "query.jpg", rerank="geometric:depth=12:least=4")) == expected
    assert ids(asked(client, folder / "query.jpg")) != expected, "the local features matter"
    assert reads == [0, 1], "once per request"


def test_the_file_of_an_indexed_query_is_read_once(
    index: Index, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    usual = IndexedFiles.content

    def note(self: IndexedFiles, image_id: int) -> bytes:
        reads.append(image_id)
        return usual(self, image_id)

    monkeypatch.setattr(IndexedFiles, "content", note)
    boxed = {"x1": 12, "y1": 22, "x2": 130, "y2": 140, "rerank": "geometric", "top": 20}
    ids(client.get("/api/images/4/search", params=boxed))
    assert reads == [4]


def test_pages_of_a_reranked_list_follow_one_another(folder: Path, client: TestClient) -> None:
    all_ids = ids(asked(client, folder / "query.jpg", rerank="aqe,geometric"))
    parts = [asked(client, folder / "query.jpg", rerank="aqe,geometric", top=7, skip=skip) for skip in (0, 7, 14)]
    assert [image for part in parts for image in ids(part)][:20] == all_ids
    assert [part.json()["more"] for part in parts] == [True, True, True]
    assert parts[1].json()["results"][0]["rank"] == 8


def test_a_threshold_is_still_of_the_cosine(folder: Path, client: TestClient) -> None:
    plain = asked(client, folder / "query.jpg").json()["results"]
    cut = (plain[7]["score"] + plain[8]["score"]) / 2
    found = asked(client, folder / "query.jpg", rerank="superglobal", threshold=cut)
    assert sorted(ids(found)) == sorted(result["image"]["image_id"] for result in plain[:8])


def test_a_chain_that_cannot_be_used_is_refused_in_a_sentence(
    folder: Path, client: TestClient, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "query.jpg"
    assert "no re-ranking step 'best'. Choose from aqe" in sentence(asked(client, file, rerank="best"))
    assert "no re-ranking step ''" in sentence(asked(client, file, rerank="aqe,"))
    assert "aqe has no option 'x'" in sentence(asked(client, file, rerank="aqe:x=1"))
    assert "from 1 to" in sentence(asked(client, file, rerank="geometric:depth=100000"))
    assert "at most" in sentence(asked(client, file, rerank=",".join(["aqe"] * 20)))
    assert sentence(asked(client, file, rerank="a" * 1000)).startswith("rerank: ")
    answer = client.get("/api/images/0/search", params={"rerank": "best"})
    assert sentence(answer).startswith("rerank: There is no re-ranking step")
    assert ids(asked(client, file, rerank=" ")) == ids(asked(client, file))
    failed = CliRunner().invoke(commands, ["search", str(folder / "i.glam"), str(file), "--rerank", "best"])
    assert isinstance(failed.exception, glam.GlamError)
    copy = folder / "copy.glam"
    shutil.copytree(folder / "i.glam", copy)
    precompute(copy, knn_graph=False)
    limits = IndexLimits(linked_in_memory=1)
    with Index.open(copy, limits=limits) as opened, TestClient(create_app(opened, model)) as other:
        detail = sentence(asked(other, file, rerank="diffusion"))
        assert detail.startswith("This re-ranking chain needs the kNN graph of the index, which is missing.")
        assert str(folder) not in detail


def test_plain_searches_do_not_wait_for_re_ranking_and_its_queue_is_bounded(
    folder: Path, index: Index, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_finish = threading.Event(), threading.Event()

    usual = Index.search

    def slowly(self: Index, queries: Any, k: int | None = 10, **options: Any) -> list[list[Hit]]:
        if options["rerank"] is None:
            return usual(self, queries, k, **options)
        began.set()
        assert may_finish.wait(30)
        return [[]]

    monkeypatch.setattr(Index, "search", slowly)
    answers: list[int] = []
    limits = ServiceLimits(waiting=1, request_seconds=30)
    with TestClient(create_app(index, model, limits)) as client:

        def ask() -> None:
            answers.append(client.get("/api/images/0/search", params={"rerank": "aqe"}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        threads[0].start()
        assert began.wait(30)
        for thread in threads[1:]:
            thread.start()
        assert len(ids(client.get("/api/images/0/search", params={"top": 5}))) == 5
        for thread in threads[1:]:
            thread.join(2)  # two of them are refused at once
        assert answers == [503, 503]
        assert 'glam_queue_waiting{queue="rerank"} 1.0' in client.get("/metrics").text
        may_finish.set()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [200, 200, 503, 503]


def test_the_client_asks_for_a_chain(folder: Path, index: Index, model: Model, serve: Any) -> None:
    with serve(create_app(index, model), 5) as (port, _):
        client = glam.Client(f"http://127.0.0.1:{port}")
        answer = client.search(folder / "query.jpg", rerank="aqe,superglobal", top=20)
        with pytest.raises(glam.GlamError, match="no re-ranking step 'best'"):
            client.search(0, rerank="best")
    expected = in_library(index, model, folder / "query.jpg", "aqe,superglobal")
    assert [result.image.image_id for result in answer.results] == [hit.image_id for hit in expected]


def test_what_is_precomputed_is_shown_and_changed_from_the_command_line(folder: Path) -> None:
    copy = folder / "precomputed.glam"
    shutil.copytree(folder / "i.glam", copy)

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(commands, ["index", *arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert run("info", str(copy))["precomputed"] == ["local_features", "knn_graph"]
    done = run("precompute", str(copy), "--no-knn-graph")
    assert (done["precomputed"], done["local_features"], done["images"]) == (["local_features"], 24, 24)
    assert run("precompute", str(copy), "--no-local-features")["bytes"] == 0
    done = run("precompute", str(copy), "--local-features", "--knn-graph")
    assert done["precomputed"] == ["local_features", "knn_graph"]
    assert run("verify", str(copy), "--sample", "0")["problems"] == []
    text = CliRunner().invoke(commands, ["index", "precompute", str(copy)]).stdout
    assert "local features and kNN graph precomputed, local features of 24 of 24 images" in text


def test_keep_is_a_deprecated_name_of_precompute(folder: Path) -> None:
    copy = folder / "deprecated.glam"
    shutil.copytree(folder / "i.glam", copy)
    for options, expected in (
        (["--no-features", "--no-neighbours"], []),
        (["--features"], ["local_features"]),
        (["--neighbors"], ["local_features", "knn_graph"]),
    ):
        done = CliRunner().invoke(commands, ["index", "keep", str(copy), *options, "--json"], catch_exceptions=False)
        assert json.loads(done.stdout)["precomputed"] == expected
        assert "is now `glam index precompute`" in done.stderr


def test_files_of_candidates_are_decoded_within_the_memory_budget(
    folder: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "i.glam", read_folder(folder / "images"), model, settings=Settings(SIZE, workers=1))
    reserved: list[int] = []
    usual = MemoryBudget.reserve

    def reserve(self: MemoryBudget, size: int) -> AbstractContextManager[None]:
        reserved.append(size)
        return usual(self, size)

    monkeypatch.setattr(MemoryBudget, "reserve", reserve)
    with Index.open(tmp_path / "i.glam") as opened, TestClient(create_app(opened, model)) as client:
        ids(asked(client, folder / "query.jpg", rerank="geometric:depth=6:least=4"))
    assert len([size for size in reserved if size]) == 1 + 6, "the query and the candidates"


def test_an_image_that_does_not_fit_into_memory_has_no_local_features(
    folder: Path, model: Model, tmp_path: Path
) -> None:
    build(tmp_path / "i.glam", read_folder(folder / "images"), model, settings=Settings(SIZE, workers=1))
    with Index.open(tmp_path / "i.glam") as opened, TestClient(create_app(opened, model)) as client:
        client.app.state.glam.decoders.budget.capacity = 1000  # type: ignore[attr-defined]
        assert opened.local_features(0) is None
