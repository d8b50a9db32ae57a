"""The commands of `glam index` with Milvus as the backend."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import glam
from glam.app.cli.main import app

from .pairs import (
    COUNT,
)


def test_the_life_of_an_index_in_milvus(
    folder: Path, tmp_path: Path, database: str, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = content_model.settings()
    monkeypatch.setattr(content_model, "settings", lambda **asked: settings)
    monkeypatch.setattr(glam, "load", lambda name, device=None: content_model)
    index = tmp_path / "a day.glam"

    def run(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == code, f"{done.output}{done.exception!r}"
        return done.stdout if code == 0 else done.stderr

    new = ("index", "build", index, folder)
    assert "needs the address" in run(*new, "--backend", "milvus", code=2)
    assert "need --backend milvus" in run(*new, "--uri", database, code=2)
    assert f"{COUNT} images added" in run(*new, "--backend", "milvus", "--uri", database)
    assert json.loads(run("index", "info", index, "--json"))["backend"] == f"collection a_day at {database}"
    hits = json.loads(run("search", index, folder / "08.jpg", "--where", "year < 2010", "--top", 3, "--json"))
    assert (len(hits), hits[0]["path"], hits[0]["metadata"]["year"] < 2010) == (3, "08.jpg", True)
    assert len(json.loads(run("search", index, folder / "08.jpg", "--threshold", 0.99, "--json"))) == 1
    (twins,) = json.loads(run("index", "duplicates", index, "--json"))
    assert {image["path"] for image in twins["images"]} == {"03.jpg", "04.jpg"}
    assert "1 image removed" in run("index", "remove", index, "04.jpg")
    assert json.loads(run("index", "duplicates", index, "--json")) == []
    assert "39 unchanged" in run("index", "sync", index, folder)  # and 04.jpg comes back
    assert len(json.loads(run("index", "duplicates", index, "--json"))) == 1
    run("index", "compact", index)
    assert "no problems found (40 images" in run("index", "verify", index)
