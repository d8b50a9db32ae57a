"""`glam train` as people use it: wrong options in a sentence, too few images before the work, and lines of progress."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glam.errors import GlamError
from glam.training import cli
from glam.training.arguments import OptionError
from glam.training.cli import train
from glam.training.progress_lines import ProgressLines

GLAM = str(Path(sys.executable).with_name("glam"))
NAMES = "demo, dinov2, dinov3, finetune, glam_lite0, gldv2_r101, lite0, pe_core, siglip2"


@pytest.fixture
def landmarks(tmp_path: Path, draw_image: Callable[..., Image.Image]) -> Path:
    """Six landmarks of three images."""
    root = tmp_path / "landmarks"
    for i in range(18):
        file = root / f"landmark {i % 6}" / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_image(64, 48, i).save(file)
    return root


def options(landmarks: Path, out: Path, *more: str) -> list[str]:
    """A run of a few seconds on a small network."""
    return [
        *("--data.train", str(landmarks), "--data.val_share", "0.34", "--data.size", "64", "--data.batch_size", "4"),
        *("--data.workers", "0", "--model.backbone", "resnet10t", "--model.pretrained", "false", "--model.dim", "4"),
        *("--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--out", str(out), *more),
    ]


@pytest.mark.parametrize("arguments", [("--config", "nope"), ("--config=nope",), ("-c", "nope")], ids=" ".join)
def test_an_unknown_configuration_is_one_sentence_with_the_bundled_names(arguments: tuple[str, ...]) -> None:
    with pytest.raises(GlamError) as raised:
        train([*arguments, "--data.train", "photos"])
    assert str(raised.value) == f"There is no configuration 'nope'. Choose one of {NAMES}, or name a YAML file."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--no_such_option", "1"), "There is no option --no_such_option."),
        (("--data.size", "large"), "--data.size does not take 'large'. Give an integer."),
        (("--trainer.max_epochs", "x"), "--trainer.max_epochs does not take 'x'. Give an integer or null."),
        (("--data.augment_on", "moon"), "does not take 'moon'. Give 'workers' or 'device'."),
        (("--trainer.accelerator", "quantum"), "invalid accelerator name"),
    ],
)
def test_a_wrong_option_is_named(arguments: tuple[str, ...], sentence: str, landmarks: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as raised:
        train(options(landmarks, tmp_path / "run", *arguments))
    assert sentence in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_option_is_named() -> None:
    with pytest.raises(OptionError, match=r"^--data\.train is missing\. Add it to the command\.$"):
        train(["--config", "demo"])


def test_the_command_prints_a_few_lines() -> None:
    def run(*arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run([GLAM, "train", *arguments], capture_output=True, text=True, check=False)
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines()

    code, lines = run("--config", "nope")
    assert (code, len(lines)) == (1, 1)
    assert NAMES in lines[0]
    code, lines = run("--config", "demo", "--no_such_option", "1")
    assert (code, lines[-1]) == (
        2,
        "Error: There is no option --no_such_option. Run `glam train --help-all` for all options.",
    )
    assert len(lines) <= 5


def test_help_all_lists_every_option() -> None:
    done = subprocess.run([GLAM, "train", "--help-all"], capture_output=True, text=True, check=True)
    assert "--trainer.gradient_clip_val" in done.stdout
    assert "--model.end_whitening" in done.stdout


def test_too_few_images_for_the_pca_are_noticed_before_anything_is_written(
    landmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glam.training.pca_init.pooled_features", lambda *_: pytest.fail("the network ran"))
    out = tmp_path / "run"
    sentence = "A descriptor of 12 dimensions needs more than 12 training images, and there are 12."
    with pytest.raises(GlamError) as raised:
        train(options(landmarks, out, "--model.dim", "12"))
    assert str(raised.value) == f"{sentence} Use --config finetune, or a smaller --model.dim."
    with pytest.raises(GlamError, match="12 dimensions"):
        train(options(landmarks, out, "--model.dim", "12", "--model.start", "random", "--model.end_whitening", "0.5"))
    assert not out.exists()


def test_a_start_at_random_needs_no_number_of_images(landmarks: Path, tmp_path: Path) -> None:
    few = options(landmarks, tmp_path / "run", "--model.dim", "12", "--model.start", "random")
    assert train([*few, "--trainer.max_epochs", "1"]).exists()


def test_a_run_without_a_terminal_says_how_far_it_is(
    landmarks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "ProgressLines", lambda: ProgressLines(seconds=0))
    train(options(landmarks, tmp_path / "run"))
    shown = capfd.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith(("step", "training"))]
    assert lines[0] == "training starts: epochs 2, steps 6"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [f"step {step} of 6", f" epoch {1 + (step > 3)} of 2"] for step in range(1, 7)
    ]
    assert all(", loss " in line and line.endswith(" left") for line in lines[1:])
    assert lines[-1].endswith("0:00:00 left")
    assert "\r" not in shown, "no progress bar"


def test_a_minute_passes_between_two_lines(landmarks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(options(landmarks, tmp_path / "run"))
    shown = capfd.readouterr().err
    assert "training starts" in shown
    assert "step 1 of" not in shown


def test_a_run_with_a_bar_has_no_lines(
    landmarks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "ProgressLines", lambda: pytest.fail("lines beside a bar"))
    train(options(landmarks, tmp_path / "run", "--trainer.enable_progress_bar", "true", "--trainer.max_epochs", "1"))
    assert "training starts" not in capfd.readouterr().err
