"""The command line as people and scripts use it, in processes of its own."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from glam.app.cli import main
from glam.app.cli.main import app as commands
from glam.errors import GlamError
from tests.refusal import refuse

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
    done = glam(
        *("index", "build", path, folder, "--landmark-from", "folder"),
        *("--model", "timm:tf_efficientnet_lite0", "--size", 96),
    )
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


def test_a_piped_search_prints_a_line_per_hit_with_a_path_that_opens(index: Path, folder: Path, tmp_path: Path) -> None:
    query = folder / "blue gate" / "1.jpg"
    for here in (folder.parent, folder / "red tower", tmp_path):
        lines = glam("search", index, query, "--top", 3, folder=here).stdout.splitlines()
        assert len(lines) == 3
        for rank, line in enumerate(lines, start=1):
            number, score, landmark, path = line.split("\t")
            assert (int(number), landmark) == (rank, "blue gate")
            assert 0 < float(score) <= 1
            assert (here / path).is_file()
            assert Path(path).is_absolute() == (here != folder.parent)


def test_a_search_without_a_hit_says_why(index: Path, folder: Path) -> None:
    query = folder / "blue gate" / "1.jpg"
    none = glam("search", index, query, "--threshold", 0.99, "--where", "landmark = 'red tower'")
    assert none.stdout == ""
    assert re.fullmatch(r"No image scores at least 0\.99; the best scores 0\.\d\d\.\n", none.stderr)
    assert "No image meets the filter" in glam("search", index, query, "--where", "landmark = 'x'").stderr
    exact = glam("search", index, query, "--threshold", 0.99, "--where", "landmark = 'red tower'", "--json")
    assert (exact.stdout, exact.stderr) == ("[]\n", "")


def test_eval_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "result.json"
    done = glam("eval", "folder", folder, "--model", "timm:tf_efficientnet_lite0", "--size", 96, "--out", out)
    assert "recall@1" in done.stdout
    assert "9 images of 3 landmarks, 0 distractors" in done.stdout
    result = json.loads(out.read_text())
    assert 0.5 < result["results"]["map"] <= 1
    assert len(result["results"]["ap"]) == 9
    assert result["protocol"]["size"] == 96
    assert result["model"]["fingerprint"]
    assert result["versions"]["torch"]


def test_json_is_a_switch_of_eval_and_its_former_form_still_works(folder: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[str, str]:
        done = CliRunner().invoke(commands, ["eval", "folder", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr

    options = ("--model", "timm:tf_efficientnet_lite0", "--size", 96)
    notice = "--json FILE is now --out FILE."
    for arguments in ((folder, "--json", *options), ("--json", folder, *options)):
        printed, notes = run(*arguments)
        assert 0.5 < json.loads(printed)["results"]["map"] <= 1
        assert notice not in notes
    for i, former in enumerate((("--json", "{}"), ("--json={}",))):
        for j, arguments in enumerate(((folder, *former, *options), (*former, *options, folder))):
            out = tmp_path / f"{i}{j}.json"
            printed, notes = run(*(str(argument).format(out) for argument in arguments))
            assert "recall@1" in printed
            assert notice in notes
            assert json.loads(out.read_text())["dataset"] == str(folder)
    printed, _ = run(folder, "--json", "--out", tmp_path / "both.json", *options)
    assert json.loads(printed) == json.loads((tmp_path / "both.json").read_text())


def test_a_port_in_use_is_said_before_the_work(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (("serve", "nowhere.glam"), ("demo", "folder")):
            done = glam(*command, "--port", port, code=1, folder=tmp_path)
            assert done.stderr.strip() == f"glam: Port {port} is in use. Choose another with --port."
        assert not list(tmp_path.iterdir())
    done = glam("serve", "nowhere.glam", "--port", port, code=1, folder=tmp_path)
    assert "no index there" in done.stderr
    elsewhere = ("--host", "192.0.2.1", "--read-token", "secret", "--write-token", "other", "--port", port)
    done = glam("serve", "nowhere.glam", *elsewhere, code=1, folder=tmp_path)
    assert done.stderr.strip() == "glam: 192.0.2.1 is not an address of this machine. Choose another with --host."


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
    assert "was built with timm:tf_efficientnet_lite0, and descriptors of glam-lite0 cannot be compared" in done.stderr
    built = glam("index", "build", index, folder, "--model", "glam-lite0", "--size", 96, code=1)
    sentence = "was built with timm:tf_efficientnet_lite0, not with glam-lite0. Build a new index instead."
    assert built.stderr.strip() == f"glam: {index} {sentence}"
    resized = glam("index", "build", index, folder, "--model", "timm:tf_efficientnet_lite0", "--size", 64, code=1)
    assert "was built from images of 96 pixels, not of 64." in resized.stderr


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
    usual_open, usual_file_open = os.open, Path.open

    def note_open(file: Any, *arguments: Any, **options: Any) -> int:
        reads.append(Path(file))
        return usual_open(file, *arguments, **options)

    def note_file_open(self: Path, *arguments: Any, **options: Any) -> Any:
        reads.append(self)
        return usual_file_open(self, *arguments, **options)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(Path, "open", note_file_open)
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
    glam("index", "duplicates", index, "--threshold", "nan", code=2)
    glam("serve", index, "--timeout", "nan", code=2)
    glam("serve", index, "--grace", "nan", code=2)
    glam("bench", "serve", "http://127.0.0.1:1", ".", "--seconds", "nan", code=2)
    glam("search", index, "x.jpg", "--top", 0, code=2)
    glam("index", "build", index, ".", "--size", "large", code=2)
    glam("train", "--config", "demo", "--no_such_option", "1", code=2)


def test_a_folder_that_the_system_refuses_to_list_is_a_failure_and_no_wrong_usage(
    index: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in (index, folder))
    refuse(monkeypatch, "scandir", folder)
    for arguments in (("index", "sync", index, folder), ("eval", "folder", folder), ("whiten", "fit", folder)):
        options = ("--out", folder.parent / "whitened") if arguments[0] == "whiten" else ()
        done = CliRunner().invoke(commands, [*map(str, (*arguments, *options))])
        assert isinstance(done.exception, GlamError)
        assert "could not be listed: permission denied" in str(done.exception)


def test_a_path_that_the_system_refuses_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["glam", "search"])

    def failing() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "secret/list.csv")

    monkeypatch.setattr(main, "app", failing)
    with pytest.raises(SystemExit, match="1"):
        main.main()
    sentence = "glam: secret/list.csv cannot be opened: permission denied. Check the path and its permissions.\n"
    assert capsys.readouterr().err == sentence


def test_warnings_of_decoders_are_not_shown(folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(folder, tmp_path / "photos")
    exif = Image.Exif()
    exif[0x9286] = "x" * 100  # a comment, stored outside the entry, whose bytes are cut off
    Image.new("RGB", (40, 40)).save(root / "red tower" / "cut.jpg", exif=exif.tobytes()[:-60])
    done = glam("eval", "folder", root, "--model", "timm:tf_efficientnet_lite0", "--size", 32)
    assert "Warning" not in done.stderr
    assert "EXIF" not in done.stderr
