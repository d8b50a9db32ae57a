"""What commands read of a folder: options of the scan, what they say of it, and exit codes."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from glam.app.cli.main import app
from tests.refusal import refuse

Draw = Callable[..., Image.Image]

MODEL = ("--model", "timm:tf_efficientnet_lite0", "--size", "32")


def run(*arguments: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture
def photos(tmp_path: Path, draw_image: Draw) -> Path:
    """Two landmarks of two images in folders of two years, a loose image, and a video."""
    root = tmp_path / "photos"
    names = ("2019/tower/0.png", "2020/tower/1.png", "2019/bridge/2.png", "2020/bridge/3.png", "4.png", "draft/5.png")
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw_image(48, 40, seed).save(root / name)
    (root / "film.mov").touch()
    return root


@pytest.fixture
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders named ``draft`` cannot be listed."""
    refuse(monkeypatch, "scandir", lambda path: path.name == "draft", errno.EIO)


def test_eval_says_what_it_sees_and_what_it_skips(photos: Path) -> None:
    options = ("--exclude", "draft/", "--exclude", "/4.png", "--landmark-from", "parent")
    done = run("eval", "folder", photos, *MODEL, *options, "--json")
    assert list(json.loads(done.stdout)["results"]["ap"]) == sorted(
        f"{year}/{landmark}/{i}.png"
        for i, (year, landmark) in enumerate(
            [("2019", "tower"), ("2020", "tower"), ("2019", "bridge"), ("2020", "bridge")]
        )
    )
    assert json.loads(done.stdout)["skipped"] == {"formats": {".mov": 1}, "excluded": 2, "links": {}, "unlisted": {}}
    lines = done.stderr.splitlines()
    assert lines[0] == f"{photos}: 4 images of 2 landmarks"
    assert "skipped: 1 .mov (format not read), 2 excluded" in lines
    assert not any("look like folders" in line for line in lines)


def test_eval_warns_of_folders_for_sorting(photos: Path, draw_image: Draw) -> None:
    draw_image(48, 40, 9).save(photos / "2019" / "tower" / "9.png")
    lines = run("eval", "folder", photos, *MODEL).stderr.splitlines()
    assert lines[0] == f"{photos}: 7 images of 5 landmarks, 1 without a landmark"
    assert lines[1] == (
        "landmark names such as '2019', '2020' look like folders for sorting, not landmarks; see --landmark-from"
    )


def test_the_manifest_names_the_landmarks_of_the_folder_alone(photos: Path, tmp_path: Path, draw_image: Draw) -> None:
    """Distractors may be a plain folder, whatever names the landmarks."""
    (photos / "manifest.csv").write_text("path,landmark\n2019/tower/0.png,a\n2020/tower/1.png,a\n")
    (tmp_path / "others").mkdir()
    draw_image(48, 40, 9).save(tmp_path / "others" / "9.png")
    (tmp_path / "others" / "x.psd").touch()
    options = ("--landmark-from", "manifest", "--distractors", tmp_path / "others", "--json")
    result = json.loads(run("eval", "folder", photos, *MODEL, *options).stdout)
    assert (len(result["results"]["ap"]), result["protocol"]["distractors"]) == (2, 1)
    assert result["skipped_distractors"]["formats"] == {".psd": 1}


@pytest.mark.usefixtures("failing_disk")
@pytest.mark.parametrize(
    "command",
    [
        ("eval", "folder", "{photos}", *MODEL, "--landmark-from", "parent", "--out", "{out}.json"),
        ("describe", "{photos}", *MODEL, "--out", "{out}.safetensors"),
        ("data", "prepare", "{photos}", "{out}", "--size", "32"),
        ("whiten", "fit", "{photos}", *MODEL, "--out", "{out}.safetensors", "--method", "pca", "--dim", "2"),
    ],
    ids=lambda command: command[0],
)
def test_a_folder_that_cannot_be_listed_is_named_and_the_command_finishes_with_1(
    command: tuple[str, ...], photos: Path, tmp_path: Path
) -> None:
    done = run(*(word.format(photos=photos, out=tmp_path / "out") for word in command), code=1)
    assert "skipped: 1 .mov (format not read), 1 folder that could not be listed\n" in done.stderr
    assert "Folders that could not be listed:\n  draft: input/output error\n" in done.stderr
    assert list(tmp_path.glob("out*")), "the result is written"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["4.png", "2019/tower/0.png", "2020/tower/1.png"]),
        (("--exclude", "*.png", "--exclude", "!/4.png"), ["4.png"]),
        (("--follow-links",), ["4.png", "2019/tower/0.png", "2020/tower/1.png", "album/8.png"]),
    ],
)
def test_describe_reads_what_the_options_say(
    photos: Path, tmp_path: Path, draw_image: Draw, arguments: tuple[str, ...], expected: list[str]
) -> None:
    for name in ("2019/bridge/2.png", "2020/bridge/3.png", "draft/5.png"):
        (photos / name).unlink()
    (tmp_path / "elsewhere").mkdir()
    draw_image(48, 40, 8).save(tmp_path / "elsewhere" / "8.png")
    (photos / "album").symlink_to(tmp_path / "elsewhere")
    done = run("describe", photos, *MODEL, "--out", tmp_path / "d.safetensors", "--json", *arguments)
    assert json.loads((tmp_path / "d.json").read_text())["paths"] == expected
    links = json.loads(done.stdout)["skipped"]["links"]
    assert links == ({} if "--follow-links" in arguments else {"album": "a link to a folder; add --follow-links"})


def test_prepare_names_landmarks_as_asked(photos: Path, tmp_path: Path) -> None:
    run("data", "prepare", photos, tmp_path / "out", "--size", "32", "--landmark-from", "parent", "--exclude", "draft")
    lines = (tmp_path / "out" / "manifest.csv").read_text().splitlines()
    assert {line.split(",")[1] for line in lines[1:]} == {"tower", "bridge", ""}


def test_a_wrong_choice_is_wrong_usage(photos: Path) -> None:
    done = run("eval", "folder", photos, "--landmark-from", "moon", code=2)
    assert "'moon' is not one of 'folder', 'parent', 'manifest', 'none'" in " ".join(done.stderr.split())


def test_train_says_what_it_reads(photos: Path, tmp_path: Path, draw_image: Draw) -> None:
    for seed in range(12):
        file = photos / f"landmark {seed % 4}" / f"{seed}.png"
        file.parent.mkdir(exist_ok=True)
        draw_image(48, 40, seed).save(file)
    val = tmp_path / "val"
    for seed in range(4):
        (val / "x" / f"edited {seed % 2}").mkdir(parents=True, exist_ok=True)
        draw_image(48, 40, seed).save(val / "x" / f"edited {seed % 2}" / f"{seed}.png")
    (val / "draft").mkdir()
    draw_image(48, 40, 9).save(val / "draft" / "9.png")
    done = run(
        *("train", "--data.train", photos, "--data.val", val, "--out", tmp_path / "run", "--data.size", "32"),
        *("--data.batch_size", "4", "--data.workers", "0", "--model.backbone", "resnet10t", "--model.dim", "4"),
        *("--model.pretrained", "false", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
        *("--data.exclude", "draft/", "--data.exclude=20[12]?/", "--data.landmark_from", "parent"),
    )
    lines = done.stderr.splitlines()
    assert lines[:5] == [
        f"{photos}: 13 images of 4 landmarks, 1 without a landmark",
        "skipped: 1 .mov (format not read), 3 excluded",
        f"{val}: 4 images of 2 landmarks",
        "landmark names such as 'edited 0', 'edited 1' look like folders for sorting, not landmarks; "
        "see --data.landmark_from",
        "skipped: 1 excluded",
    ]
    assert "- 20[12]?/" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.fixture
def refused_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files named ``0.png`` cannot be opened."""
    refuse(monkeypatch, "open", lambda path: path.name == "0.png")


@pytest.mark.usefixtures("refused_file")
def test_a_file_that_the_system_refuses_is_named_and_ends_with_1(photos: Path, tmp_path: Path) -> None:
    describe = ("describe", photos, "--out", tmp_path / "d.safetensors")
    for command in (describe, ("eval", "folder", photos, "--landmark-from", "parent")):
        assert "2019/tower/0.png: permission denied" in run(*command, *MODEL, code=1).stderr


def test_a_damaged_file_is_named_and_ends_with_0(photos: Path, tmp_path: Path) -> None:
    (photos / "2019/tower/0.png").write_bytes(b"damaged")
    describe = ("describe", photos, "--out", tmp_path / "d.safetensors")
    for command in (describe, ("eval", "folder", photos, "--landmark-from", "parent")):
        assert "2019/tower/0.png: not an image" in run(*command, *MODEL).stderr


@pytest.mark.usefixtures("failing_disk")
def test_an_evaluation_that_fails_says_first_what_was_skipped(photos: Path) -> None:
    done = run("eval", "folder", photos, *MODEL, code=1)  # each landmark of a folder has one image
    assert "nothing to evaluate" in str(done.exception)
    assert "  draft: input/output error" in done.stderr.splitlines()


@pytest.mark.usefixtures("refused_file")
def test_an_evaluation_without_readable_pairs_names_an_unreadable_image(photos: Path) -> None:
    done = run("eval", "folder", photos, *MODEL, code=1)
    assert "1 cannot be read; first: " in str(done.exception)
