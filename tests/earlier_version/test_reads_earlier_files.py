"""Files of an earlier version are still read: indexes, models, descriptor files, and training runs to resume.

Commit 33b113e wrote `files/` (`make_fixtures.py`), the last one before modules and names changed; the files are never
written again. `files/expected.json` holds the answers of that version. These tests use only commands and functions that
users call, so that they outlive any change inside the package. Resumed runs are the exception: they get the former
augmentation, so that their losses can be compared.

Tolerances: 1e-5 for scores of stored descriptors; 1e-4 where images are described, because JPEG decoders and processors
round differently; 1e-3 of the loss after six further steps of training.
"""

import csv
import importlib
import json
import os
import runpy
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import glam
import glam.index

from .filler import set_modified, write_filler

FILES = Path(__file__).parent / "files"
EXPECTED = json.loads((FILES / "expected.json").read_text(encoding="utf-8"))

ROOT = "/tmp/glam-earlier-version"
"""The folder that the fixtures remember; it does not exist any more."""

SOURCES = {
    "exact": "photos",  # two batches, a removed image, an unreadable file
    "ivf_pq": "many",  # with a saved search structure
    "precomputed": "photos.csv",  # with metadata, local features, and the kNN graph
    "version_1": "photos",
    "version_2": "photos.csv",
    "milvus": "photos.csv",
}
"""What each index was built from."""

REMOVED = "photos/landmark_00003/0001.jpg"
ADDED = "photos/landmark_00001/0004.jpg"
"""The image that is queries/a.jpg."""

no_milvus = pytest.mark.skipif(
    find_spec("pymilvus") is None or find_spec("milvus_lite") is None, reason="Milvus Lite is not installed"
)
every_index = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=no_milvus if name == "milvus" else ()) for name in SOURCES]
)

Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `glam` with arguments, in this process; returns its standard output, or its errors for another exit code."""

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["glam", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("glam.app", run_name="__main__")
        output, errors = capsys.readouterr()
        assert (ended.value.code or 0) == code, output + errors
        return errors if code else output

    return run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the fixtures and the filler images."""
    for name in ("photos", "queries", "milvus.db"):
        shutil.copytree(FILES / name, tmp_path / name)
    shutil.copy(FILES / "photos.csv", tmp_path)
    shutil.copytree(tmp_path / "photos", tmp_path / "many" / "photos")
    write_filler(tmp_path / "many" / "filler")
    set_modified(tmp_path / "photos")
    set_modified(tmp_path / "many")
    monkeypatch.setenv("GLAM_MILVUS_URI", str(tmp_path / "milvus.db"))
    return tmp_path


@pytest.fixture(scope="module")
def model() -> glam.Model:
    return glam.load(FILES / "model.safetensors", "cpu")


@pytest.fixture(autouse=True)
def nothing_is_trained_for_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a saved search structure is not used: without this, it would silently be built again."""

    def fail(*arguments: object) -> None:
        raise AssertionError("the saved search structure was not used")

    monkeypatch.setattr(faiss.IndexIVFPQFastScan, "train", fail)


def copied_index(name: str, workspace: Path) -> Path:
    return shutil.copytree(FILES / "indexes" / f"{name}.glam", workspace / f"{name}.glam")


def move_root(index: Path, root: Path) -> None:
    """Points a copied index at another folder of images. A killed writer also leaves an index without checksums."""
    with closing(sqlite3.connect(index / "catalogue.sqlite")) as database, database:
        database.execute("UPDATE about SET description = json_set(description, '$.root', ?)", [str(root)])
    (index / "checksums.json").unlink(missing_ok=True)


def assert_hits(hits: Iterable[Any], expected: list[list[Any]], tolerance: float = 1e-5) -> None:
    """Compares hits with [path, landmark, score] each."""
    hits = list(hits)
    assert [(hit.path, hit.landmark) for hit in hits] == [(path, landmark) for path, landmark, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, _, score in expected], atol=tolerance)


def descriptor(image: str) -> Any:
    """The descriptor of an image as the earlier version computed it."""
    return np.array(EXPECTED["descriptors"][image], dtype=np.float32)


@every_index
def test_an_index_answers_as_it_did(name: str, workspace: Path, command: Command) -> None:
    """An untouched copy, without the images: hits with and without a filter, re-ranked hits, and every checksum."""
    index, expected = copied_index(name, workspace), EXPECTED["indexes"][name]
    info = expected["info"]
    with glam.index.open(index) as opened:
        assert (len(opened), opened.dim, opened.fingerprint) == (info["images"], info["dim"], info["fingerprint"])
        assert dict(opened.unreadable()) == info["unreadable"]
        for search in expected["searches"]:
            (hits,) = opened.search(descriptor(search["query"]), k=5, where=search["where"])
            assert_hits(hits, search["hits"])
    for search in expected["reranked"]:
        options = ("--model", FILES / "model.safetensors", "--device", "cpu", "--top", 5, "--json")
        output = command("search", index, workspace / search["query"], "--rerank", search["rerank"], *options)
        found = json.loads(output)
        assert [hit["path"] for hit in found] == [path for path, _, _ in search["hits"]], search["rerank"]
        scores = [score for _, _, score in search["hits"]]
        np.testing.assert_allclose([hit["score"] for hit in found], scores, atol=1e-4)
    verified = glam.index.verify(index)
    assert verified.problems == ()
    assert (verified.images, verified.clean) == (info["images"], expected["verified"]["clean"])
    now = json.loads(command("index", "info", index, "--json"))
    same = ("images", "removed", "landmarks", "dim", "size", "scales", "structure", "segments")
    assert {key: now[key] for key in same if key in now} == {key: info[key] for key in same if key in now}


@every_index
def test_an_index_follows_its_folder(name: str, workspace: Path, model: glam.Model, command: Command) -> None:
    """`sync` describes the one new image and nothing else, removes the one that is gone, and leaves a sound index."""
    index, source = copied_index(name, workspace), workspace / SOURCES[name]
    root = source if source.is_dir() else workspace
    move_root(index, root)
    assert glam.index.verify(index, lambda: model, sample=8).problems == ()
    before = change_images(source)
    options = ("--model", FILES / "model.safetensors", "--device", "cpu", "--json")
    report = json.loads(command("index", "sync", index, source, *options))
    count = EXPECTED["indexes"][name]["info"]["images"]
    assert [report[key] for key in ("added", "changed", "moved", "removed")] == [1, 0, 0, 1]
    assert (report["unchanged"], len(report["unreadable"])) == (count - 1, 0)
    verified = glam.index.verify(index, lambda: model)
    assert (verified.problems, verified.images, verified.clean) == ((), count, True)
    with glam.index.open(index) as opened:
        assert opened.unreadable() == []
        ((first, *others),) = opened.search(descriptor("queries/a.jpg"), k=count)
        assert (root / first.path).samefile(before / ADDED)
        assert first.score == pytest.approx(1, abs=1e-4)
        assert not any(hit.path.endswith(REMOVED.removeprefix("photos/")) for hit in others)
    if EXPECTED["indexes"][name]["reranked"]:
        output = command("search", index, workspace / "queries" / "b.jpg", "--rerank", "geometric", *options)
        assert json.loads(output)[0]["path"] == "photos/landmark_00001/0003.jpg"


def change_images(source: Path) -> Path:
    """Adds an image and removes one, also in the manifest; returns the folder that holds the folder of images."""
    folder = source if source.name == "many" else source.parent
    (folder / REMOVED).unlink()
    shutil.copy(FILES / "queries" / "a.jpg", folder / ADDED)
    if source.is_file():
        lines = [line for line in source.read_text(encoding="utf-8").splitlines() if not line.startswith(REMOVED)]
        source.write_text("\n".join([*lines, f"{ADDED},tower 1,Rome,2024"]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("suffix", "chain"), [("features", "geometric"), ("neighbours", "diffusion")])
def test_precomputed_data_is_read(suffix: str, chain: str, workspace: Path, command: Command) -> None:
    """A truncated file is an error. If the file were not read, its content would be computed again unnoticed."""
    index = copied_index("precomputed", workspace)
    (file,) = (index / "rerank").glob(f"*.{suffix}")
    os.truncate(file, file.stat().st_size - 100)
    options = ("--model", FILES / "model.safetensors", "--device", "cpu")
    assert "damaged" in command("search", index, workspace / "queries" / "a.jpg", "--rerank", chain, *options, code=1)


def test_a_model_file_gives_the_same_descriptors(model: glam.Model) -> None:
    """A model with GLAM, a descriptor layer, and a whitening, stored as float16."""
    assert model.fingerprint == EXPECTED["fingerprints"]["model.safetensors"]
    rows = model.describe([FILES / image for image in EXPECTED["descriptors"]])
    np.testing.assert_allclose(rows, np.stack(list(map(descriptor, EXPECTED["descriptors"]))), atol=1e-4)


def test_the_bundled_model_is_the_same() -> None:
    """Indexes that were built with it refuse any other model."""
    assert glam.load("glam-lite0", "cpu").fingerprint == EXPECTED["fingerprints"]["glam-lite0"]


def test_shards_are_merged_and_indexed(workspace: Path, command: Command) -> None:
    """Signs are flipped in the merged file, so that an image described again would be noticed."""
    merged, index = workspace / "descriptors.safetensors", workspace / "new.glam"
    command("describe-merge", merged, *(FILES / f"descriptors-{shard}.safetensors" for shard in (1, 2)))
    with merged.open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    rows = np.memmap(merged, dtype="<f4", mode="r+", offset=header)
    rows *= -1
    rows.flush()
    options = ("--model", FILES / "model.safetensors", "--device", "cpu")
    options = (*options, "--landmark-from", "folder")
    command("index", "build", index, workspace / "photos", "--descriptors", merged, *options)
    with glam.index.open(index) as opened:
        for search in EXPECTED["indexes"]["exact"]["searches"]:
            (hits,) = opened.search(-descriptor(search["query"]), k=5, where=search["where"])
            assert_hits(hits, search["hits"])


def test_an_evaluation_gives_the_same_figures(workspace: Path, command: Command) -> None:
    """The figures of an earlier result file can be compared with those of a new one."""
    out = workspace / "evaluation.json"
    options = ("--model", FILES / "model.safetensors", "--device", "cpu")
    command("eval", "folder", workspace / "photos", *options, "--json", out)
    now, before = (json.loads(file.read_text())["results"] for file in (out, FILES / "evaluation.json"))
    assert now["ap"] == pytest.approx(before["ap"])
    assert now["map"] == pytest.approx(before["map"])


@pytest.fixture
def former_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains with the augmentation of the earlier version."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    former = importlib.import_module("former_views")
    monkeypatch.setattr("glam.training.data.Views", former.FormerViews)
    monkeypatch.setattr("glam.training.data.collate_views", former.collate_former_views)


@pytest.mark.usefixtures("former_views")
def test_a_killed_run_resumes(workspace: Path, command: Command) -> None:
    """The same command with `--resume`, on a run moved to another folder, ends with the loss of an unbroken run."""
    run, expected = workspace / "run", EXPECTED["runs"]["plain"]
    shutil.copytree(FILES / "runs" / "plain", run)
    options = [option.replace(ROOT, str(workspace)) for option in expected["options"]]
    command("train", *options, "--out", run, "--resume")
    assert last_loss(run) == pytest.approx(expected["epoch_loss"], rel=1e-3)
    assert glam.load(run / "model.safetensors", "cpu").dim == 8


@pytest.mark.usefixtures("former_views")
def test_a_killed_run_resumes_by_its_configuration_file(workspace: Path, command: Command) -> None:
    """The same with sharded landmark centers: every option in config.yaml is still understood."""
    run, expected = workspace / "run", EXPECTED["runs"]["sharded"]
    shutil.copytree(FILES / "runs" / "sharded", run)
    configuration = shutil.copy(run / "config.yaml", workspace)
    command("train", "--config", configuration, "--data.train", workspace / "photos", "--out", run, "--resume")
    assert last_loss(run) == pytest.approx(expected["epoch_loss"], rel=1e-3)
    assert glam.load(run / "model.safetensors", "cpu").dim == 8


def last_loss(run: Path) -> float:
    """Mean loss of the last epoch, from the newest log of a run."""
    file = max((run / "csv").glob("version_*/metrics.csv"))
    with file.open(newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["epoch_loss"]]
    return float(rows[-1]["epoch_loss"])
