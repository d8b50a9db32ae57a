"""An interrupted demo is resumed: what is done is not repeated."""

from pathlib import Path

import pytest

from glam.app.cli import demo
from glam.errors import GlamError

TRAINING = {"landmarks": 6, "images_per_landmark": 4, "first_landmark": 0}
UNSEEN = {"landmarks": 2, "images_per_landmark": 3, "first_landmark": 1000}
OPTIONS = (
    *("--trainer.max_epochs", "1", "--model.backbone", "test_resnet", "--model.pretrained", "false"),
    *(
        "--model.dim",
        "8",
        "--model.attention",
        "{name: glam, reduction: 8}",
        "--model.start",
        "random",
        "--data.batch_size",
        "4",
    ),
    *("--data.size", "64", "--data.val_size", "64", "--data.workers", "0", "--trainer.accelerator", "cpu"),
)


def run(folder: Path) -> Path:
    return demo.run(folder, TRAINING, UNSEEN, OPTIONS)


@pytest.fixture
def tiny_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No evaluation before the training, which would take longer than all else."""
    evaluate = demo._evaluate
    monkeypatch.setattr(demo, "_evaluate", lambda model, folder, size: evaluate(model, folder, 64))


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Makes a function of the demo end with Ctrl-C."""

    def press(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, name, press)


@pytest.mark.usefixtures("tiny_baseline")
def test_an_interrupted_demo_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = tmp_path / "demo", tmp_path / "demo" / "run" / "model.safetensors"
    for name in ("train", "build"):
        with monkeypatch.context() as patch:
            interrupt(patch, name)
            with pytest.raises(KeyboardInterrupt):
                run(folder)
        assert "the demo was interrupted. Run the command again to resume it." in capsys.readouterr().err
        assert model.exists() == (name == "build")
    times = {file: file.stat().st_mtime_ns for file in (model, *folder.glob("*/landmark_*/*.jpg"))}
    assert run(folder).exists()
    assert "holds an interrupted demo, which is resumed" in capsys.readouterr().err
    assert times == {file: file.stat().st_mtime_ns for file in times}
    run(folder)
    assert "holds a finished demo" in capsys.readouterr().err


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(GlamError, match="is not empty"):
        run(tmp_path)
