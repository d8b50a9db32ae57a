"""Output files: nothing of another kind is replaced, whatever fails is one sentence, and a failure leaves nothing."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from glam import model_file
from glam.app.cli.main import app
from glam.errors import GlamError
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork
from glam.output import OutputKind, check_output, has_json_keys, write_json, write_output

TEXT = OutputKind("a text of ours", lambda path: path.read_text(encoding="utf-8").startswith("ours"))
Draw = Callable[..., Image.Image]
Command = Callable[..., str]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_file_and_an_earlier_output_may_be_written(tmp_path: Path) -> None:
    check_output(tmp_path / "deep" / "er" / "a.txt", TEXT)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.txt").write_text("ours, the first")
    check_output(tmp_path / "a.txt", TEXT, [tmp_path / "b.txt", tmp_path])


@pytest.mark.parametrize("content", [b"theirs", b"\xff\xfe"])
def test_a_file_of_another_kind_is_not_replaced(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(GlamError, match=r"a\.txt exists and is not a text of ours\. Choose another name"):
        check_output(tmp_path / "a.txt", TEXT)


def test_an_input_is_not_replaced_by_whatever_path_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.txt"
    source.write_text("ours")
    (tmp_path / "link.txt").symlink_to(source)
    (tmp_path / "hard.txt").hardlink_to(source)
    monkeypatch.chdir(tmp_path)
    for path in (source, Path("a.txt"), tmp_path / "x" / ".." / "a.txt", Path("link.txt"), Path("hard.txt")):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(GlamError, match="is an input of this command"):
            check_output(path, TEXT, [source])
    with pytest.raises(GlamError, match="is an input"):
        check_output(Path("none.txt"), TEXT, [tmp_path / "none.txt"])


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("folder", "is a folder"),
        ("file/a.txt", "Not a directory"),
        ("/proc/a.txt", "cannot be written"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(path: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(GlamError, match=sentence):
        check_output(tmp_path / path, TEXT)


def test_a_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture("resnet10t", dim=8, attention=None))
    for mask in (0o022, 0o027):
        with umask(mask):
            model_file.save(tmp_path / "m.safetensors", network, ModelHeader(network.architecture, size=64))
            write_json(tmp_path / "a.json", {})
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"first": 1})
    before = contents(tmp_path)

    def fill_the_disk() -> None:
        with write_output(tmp_path / "a.json") as partial:
            partial.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(GlamError, match=r"a\.json: cannot be written: No space left on device"):
        fill_the_disk()
    assert contents(tmp_path) == before


def test_a_link_stays_and_a_pipe_is_written_to_directly(tmp_path: Path) -> None:
    (tmp_path / "latest.json").symlink_to(tmp_path / "real.json")
    write_json(tmp_path / "latest.json", {"a": 1})
    assert (tmp_path / "latest.json").is_symlink()
    assert has_json_keys(tmp_path / "real.json", ["a"])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_output(pipe, TEXT)
    write_json(pipe, {"b": 2})
    assert json.loads(os.read(reader, 100)) == {"b": 2}
    os.close(reader)


# The commands


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `glam` in a folder of files of every kind; returns what it prints, or the sentence that it fails with."""

    def run(line: str, *, fails: bool = False) -> str:
        done = CliRunner().invoke(app, line.split())
        assert done.exit_code == int(fails), f"{done.output} {done.exception!r}"
        if fails:
            assert isinstance(done.exception, GlamError)
            return str(done.exception)
        return done.stdout

    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def workspace(tmp_path: Path, draw_image: Draw) -> Path:
    for landmark, seeds in (("tower", range(4)), ("gate", range(4, 8))):
        (tmp_path / "photos" / landmark).mkdir(parents=True)
        for seed in seeds:
            draw_image(64, 48, seed).save(tmp_path / "photos" / landmark / f"{seed}.jpg")
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture("resnet10t", dim=8, attention={"name": "glam", "reduction": 4}))
    model_file.save(tmp_path / "model.safetensors", network, ModelHeader(network.architecture, size=64))
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    (tmp_path / "notes.onnx").write_text("mine")
    (tmp_path / "notes.yaml").write_text("mine: 1\n")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("mine: 1\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "manifest.csv").write_text("path,landmark,width,height\nmine.jpg,a,1,1\n")
    draw_image(64, 48).save(tmp_path / "photo.png")
    truth = '{"format": 1, "images": ["a"], "queries": []}'
    (tmp_path / "gnd.json").write_text(truth)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("describe photos --model model.safetensors --out model.safetensors", "is an input"),
        ("describe photos --model model.safetensors --out notes.safetensors", "notes.json exists and is not the JSON"),
        ("describe photos --model none.safetensors --out folder.safetensors", "is a folder"),
        ("describe photos --model none.safetensors --out /proc/a.safetensors", "cannot be written"),
        ("describe photos --model none.safetensors --out model.safetensors", "is not a file of descriptors"),
        ("whiten fit photos --model model.safetensors --out model.safetensors", "is an input"),
        ("whiten fit photos --model none.safetensors --out notes.json", "is not a model file"),
        ("whiten fit photos --model none.safetensors --out folder.safetensors", "is a folder"),
        ("adapt model.safetensors photos --out model.safetensors", "is an input"),
        ("adapt none.safetensors photos --out notes.json", "is not a model file"),
        ("export --model none.safetensors --out notes.onnx", "is not an ONNX file"),
        ("export --model none.safetensors --out folder.safetensors", "is a folder"),
        ("explain photo.png --model none.safetensors --out photo.png", "is an input"),
        ("explain photos/tower/0.jpg --model none.safetensors --out photo.png", "is not a picture that"),
        ("eval folder photos --model none.safetensors --json notes.json", "is not a result file"),
        ("eval convert gnd.json gnd.json", "is an input"),
        ("eval convert gnd.json notes.json", "is not a ground truth"),
        ("eval descriptors x --gnd gnd.json --queries q.npy --database d.npy --json gnd.json", "is an input"),
        ("data prepare photos made --size 64", "holds other files, such as manifest.csv"),
        (
            "train --config demo --data.train photos --data.val photos --out run",
            "config.yaml exists and is not the configuration",
        ),
        ("train --config demo --data.train photos --data.val photos --out photos", "photos is an input"),
    ],
)
def test_a_command_refuses_its_output_before_the_work(
    line: str, sentence: str, command: Command, workspace: Path
) -> None:
    before = contents(workspace)
    assert sentence in command(line, fails=True)
    assert contents(workspace) == before


@pytest.mark.parametrize(
    "line",
    [
        "describe photos --model model.safetensors --out new/a.safetensors",
        "whiten fit photos --model model.safetensors --method pca --dim 2 --out new/w.safetensors",
        "explain photo.png --model model.safetensors --out new/why.png",
        "explain photo.png --model model.safetensors --out new/why.webp",
        "explain photo.png --model model.safetensors --out new/why.jpg",
        "eval folder photos --model model.safetensors --json new/result.json",
        "eval convert gnd.json new/gnd.json",
        "data prepare photos new --size 32",
    ],
)
def test_a_command_replaces_its_own_output(line: str, command: Command, workspace: Path) -> None:
    for _ in range(2):
        command(line)
    assert not list(workspace.rglob("*.partial"))


def test_a_model_is_not_merged_over(command: Command, workspace: Path) -> None:
    for part in (1, 2):
        command(f"describe photos --model model.safetensors --out {part}.safetensors --shard {part}/2")
    before = contents(workspace)
    assert "is an input" in command("describe-merge 1.safetensors 1.safetensors 2.safetensors", fails=True)
    assert "is not a file of descriptors" in command(
        "describe-merge model.safetensors 1.safetensors 2.safetensors", fails=True
    )
    assert contents(workspace) == before
    for _ in range(2):
        command("describe-merge all.safetensors 1.safetensors 2.safetensors")


def test_images_that_prepare_did_not_write_are_not_replaced(command: Command, workspace: Path, draw_image: Any) -> None:
    (workspace / "mine" / "tower").mkdir(parents=True)
    draw_image(20, 20).save(workspace / "mine" / "tower" / "0.jpg")
    before = contents(workspace)
    assert "such as tower/0.jpg" in command("data prepare photos mine --size 64", fails=True)
    assert contents(workspace) == before
