"""The command line as people and scripts use it, in processes of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from glam.app.cli.main import app as commands

Draw = Callable[..., Image.Image]
GLAM = str(Path(sys.executable).with_name("glam"))


def glam(*arguments: object, code: int = 0, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [GLAM, *map(str, arguments)], capture_output=True, text=True, cwd=folder, env={**os.environ, "COLUMNS": "160"}
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "images"
    for landmark, color in (("red tower", "red"), ("blue gate", "blue"), ("green arch", "green")):
        (root / landmark).mkdir(parents=True)
        for i in range(3):
            noise = Image.effect_noise((80 + 16 * i, 64), 60).convert("RGB")
            Image.blend(Image.new("RGB", noise.size, color), noise, 0.3).save(root / landmark / f"{i}.jpg")
    (root / "red tower" / "broken.jpg").write_text("no image")
    return root


@pytest.fixture(scope="module")
def index(folder: Path) -> Path:
    path = folder.parent / "images.glam"
    done = glam("index", "build", path, folder, "--model", "timm:tf_efficientnet_lite0", "--size", 96)
    assert "9 images added" in done.stdout
    assert "red tower/broken.jpg: not an image that can be read" in done.stderr
    return path


def test_bench_measures_what_is_there(index: Path) -> None:
    forms = json.loads(glam("bench", "module", "--device", "cpu", "--json").stdout)["forms"]
    assert [form["form"] for form in forms] == ["plain", "fast PyTorch"]
    assert all(form["forward"] > 0 and form["both"] > 0 for form in forms)
    assert json.loads(glam("bench", "search", index, "--queries", 5, "--json").stdout)["recall_at_10"] == 1


def test_help_answers_without_pytorch() -> None:
    assert "search" in glam("--help").stdout
    program = "import sys, glam.app.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_info(index: Path) -> None:
    facts = json.loads(glam("index", "info", index, "--json").stdout)
    assert (facts["images"], facts["landmarks"], facts["size"]) == (9, 3, 96)
    assert list(facts["unreadable"]) == ["red tower/broken.jpg"]
    assert "tf_efficientnet_lite0" in glam("index", "info", index).stdout


def test_search(index: Path, folder: Path) -> None:
    found = json.loads(glam("search", index, folder / "blue gate" / "1.jpg", "--top", 3, "--json").stdout)
    assert [hit["landmark"] for hit in found] == ["blue gate"] * 3
    assert found[0]["path"] == "blue gate/1.jpg"
    boxed = glam("search", index, folder / "blue gate" / "1.jpg", "--bbox", 10, 10, 60, 60, "--top", 1)
    assert "blue gate" in boxed.stdout


def test_eval_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "result.json"
    done = glam("eval", "folder", folder, "--model", "timm:tf_efficientnet_lite0", "--size", 96, "--json", out)
    assert "recall@1" in done.stdout
    result = json.loads(out.read_text())
    assert 0.5 < result["results"]["map"] <= 1
    assert len(result["results"]["ap"]) == 9
    assert result["protocol"]["size"] == 96
    assert result["model"]["fingerprint"]
    assert result["versions"]["torch"]


def test_generated_landmarks(tmp_path: Path) -> None:
    glam("data", "generate", tmp_path / "made", "--landmarks", 2, "--images", 2, "--size", 64)
    assert len(list((tmp_path / "made").glob("landmark_*/*.jpg"))) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("search", "nowhere.glam", "x.jpg"), "nowhere.glam: no index there"),
        (("index", "info", "."), "no index there"),
        (("index", "build", "x.glam", "nowhere"), "nowhere: no such file or folder"),
        (("eval", "folder", ".", "--model", "resnet9000"), "no model named 'resnet9000'"),
        (("train", "--config", "demo", "--data.train", "nowhere"), "nowhere: no such file or folder"),
    ],
)
def test_an_expected_failure_is_one_sentence_and_exit_code_1(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = glam(*arguments, code=1, folder=tmp_path)
    assert sentence in done.stderr
    assert done.stdout == ""


def test_a_model_other_than_the_indexs_own_is_refused(index: Path, folder: Path) -> None:
    done = glam("search", index, folder / "blue gate" / "1.jpg", "--model", "glam-lite0", code=1)
    assert "cannot be compared" in done.stderr


def test_the_image_is_read_once_and_errors_name_its_path(
    index: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, text = tmp_path / "query.jpg", tmp_path / "text.jpg"
    shutil.copyfile(folder / "blue gate" / "1.jpg", image)
    text.write_text("text")
    for file, reason in ((tmp_path / "none.jpg", "no such file"), (text, "not an image that can be read")):
        assert f"{file}: {reason}" in glam("search", index, file, code=1).stderr
    assert f"{image}: the box" in glam("search", index, image, "--bbox", 900, 900, 950, 950, code=1).stderr
    reads: list[Path] = []
    usual_read, usual_open = Path.read_bytes, Image.open

    def note_read(self: Path) -> bytes:
        reads.append(self)
        return usual_read(self)

    def note_open(file: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, (str, Path)):
            reads.append(Path(file))
        return usual_open(file, *arguments, **options)

    monkeypatch.setattr(Path, "read_bytes", note_read)
    monkeypatch.setattr(Image, "open", note_open)
    search = ["search", str(index), str(image), "--rerank", "geometric", "--device", "cpu"]
    assert CliRunner().invoke(commands, search, catch_exceptions=False).exit_code == 0
    assert reads.count(image) == 1


def test_an_unknown_form_of_the_kernels_is_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLAM_KERNELS", "fast")
    done = glam("describe", folder, "--out", tmp_path / "a.safetensors", code=1)
    assert done.stderr.strip() == (
        "glam: GLAM_KERNELS=fast: there is no such form. Choose one of auto, plain, torch, triton."
    )


def test_wrong_usage_is_exit_code_2(index: Path) -> None:
    glam("search", index, code=2)
    glam("search", index, "x.jpg", "--threshold", "nan", code=2)
    glam("search", index, "x.jpg", "--top", 0, code=2)
    glam("index", "build", index, ".", "--size", "large", code=2)
    glam("train", "--config", "demo", "--no_such_option", "1", code=2)
