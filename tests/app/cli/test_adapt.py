"""`glam adapt`: the model that it writes, and when it writes none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

import glam
from glam import GlamError, model_file
from glam.app.cli.main import app
from glam.eval.whitening import Whitening, with_whitening, without_whitening
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork
from glam.training.adapt import fit_if_better

LANDMARKS, VIEWS = 12, 4


@pytest.fixture
def photos(tmp_path: Path, draw_image: Callable[..., Image.Image]) -> Path:
    """Landmarks of four views, whose light differs."""
    for landmark in range(LANDMARKS):
        folder = tmp_path / "photos" / f"landmark {landmark:02}"
        folder.mkdir(parents=True)
        view = np.asarray(draw_image(64, 48, landmark), dtype=np.float64)
        for i in range(VIEWS):
            random = np.random.default_rng([landmark, i])
            light = random.uniform(0.4, 1.3, 3)
            pixels = (view * light + random.normal(0, 10, view.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def images(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


def write_model(path: Path, photos: Path | None = None) -> Path:
    """A small random model; with photos, its whitening amplifies the directions in which views of a landmark differ."""
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture("resnet10t", dim=16, attention=None)).eval()
    header = ModelHeader(network.architecture, size=64, scales=(1.0, 0.7), training={"data": "before"}, licence="MIT")
    if photos is not None:
        rows = glam.Model("bare", network, header).describe(images(photos)).reshape(LANDMARKS, VIEWS, -1)
        differences = (rows - rows.mean(axis=1, keepdims=True)).reshape(LANDMARKS * VIEWS, -1)
        variances, directions = np.linalg.eigh(differences.T @ differences)
        projection = (directions * np.sqrt(variances.clip(1e-9))).T
        network = with_whitening(network, Whitening(rows.mean(axis=(0, 1)).astype(np.float64), projection[-6:]))
    model_file.save(path, network, ModelHeader(network.architecture, 64, (1.0, 0.7), header.training, "MIT"))
    return path


def run(*arguments: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_the_written_model_is_the_layer_that_was_fitted(photos: Path, tmp_path: Path) -> None:
    """The layer replaces the whitening of the model, and several scales are averaged before it."""
    start = write_model(tmp_path / "start.safetensors", photos)
    out = tmp_path / "new" / "adapted.safetensors"
    done = run(start, photos, "--out", out, "--seed", 3)
    model, adapted = glam.load(start, "cpu"), glam.load(out, "cpu")
    bare = glam.Model("bare", without_whitening(model.network), model.header).describe(images(photos))
    landmark_ids = np.repeat(np.arange(LANDMARKS), VIEWS)
    found = fit_if_better(bare, model.describe(images(photos)), landmark_ids, seed=3)
    assert found.whitening is not None
    assert adapted.dim == 16
    np.testing.assert_allclose(adapted.describe(images(photos)), found.whitening.apply(bare), atol=2e-4)
    lines = done.stdout.splitlines()
    assert lines[0] == str(found.gain)
    assert lines[1] == f"{out}: {start}, adapted to 48 images"
    assert (adapted.size, adapted.scales, adapted.header.licence) == (64, (1.0, 0.7), "MIT")
    with safe_open(out, "pt") as file:
        training = json.loads(file.metadata()["glam"])["training"]
    assert training["data"] == "before"
    facts = training["adapted"]
    assert (facts["model"], facts["images"], facts["seed"]) == (model.fingerprint, 48, 3)
    assert facts["held_out"]["interval"] == pytest.approx(found.gain.interval)
    assert facts["held_out"]["landmarks"] == LANDMARKS


def test_the_same_call_writes_the_same_file(photos: Path, tmp_path: Path) -> None:
    start = write_model(tmp_path / "start.safetensors", photos)
    for name in ("a", "b"):
        run(start, photos, "--out", tmp_path / f"{name}.safetensors", "--size", 48, "--scales", "1")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    adapted = glam.load(tmp_path / "a.safetensors", "cpu")
    assert (adapted.size, adapted.scales) == (48, (1.0,)), "the gain was measured with these"


def test_a_model_that_does_not_gain_is_left_unchanged(photos: Path, tmp_path: Path) -> None:
    """Views of all landmarks are dealt to folders at random, so that there is nothing to learn."""
    order = np.random.default_rng(0).permutation(LANDMARKS * VIEWS)
    for i, file in zip(order, images(photos), strict=True):
        target = tmp_path / "dealt" / f"{i // VIEWS}" / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    start = write_model(tmp_path / "start.safetensors")
    done = run(start, tmp_path / "dealt", "--out", tmp_path / "adapted.safetensors")
    assert not (tmp_path / "adapted.safetensors").exists()
    assert "adapted.safetensors is not written: " in done.stdout
    assert "stays unchanged, because the interval of the gain is not above 0." in done.stdout


def test_an_image_that_cannot_be_read_is_named_and_left_out(photos: Path, tmp_path: Path) -> None:
    start = write_model(tmp_path / "start.safetensors", photos)
    (photos / "landmark 00" / "broken.png").write_bytes(b"no image")
    done = run(start, photos, "--out", tmp_path / "adapted.safetensors")
    assert "1 file could not be read:" in done.stderr
    assert "broken.png: " in done.stderr
    assert glam.load(tmp_path / "adapted.safetensors", "cpu").header.training["adapted"]["images"] == 48


def test_too_few_landmarks_are_refused_after_the_unreadable_images_are_named(photos: Path, tmp_path: Path) -> None:
    for file in images(photos)[: -9 * VIEWS]:
        file.write_bytes(b"no image")
    start = write_model(tmp_path / "start.safetensors")
    done = CliRunner().invoke(app, ["adapt", str(start), str(photos), "--out", str(tmp_path / "adapted.safetensors")])
    assert isinstance(done.exception, GlamError)
    assert str(done.exception).startswith("9 landmarks with two readable images cannot show")
    assert "12 files could not be read:" in done.stderr
    assert not (tmp_path / "adapted.safetensors").exists()


def test_images_of_a_test_set_are_refused_without_force(photos: Path, tmp_path: Path) -> None:
    first = images(photos)[0]
    first.rename(first.with_name("all_souls_000013.png"))
    start = write_model(tmp_path / "start.safetensors", photos)
    arguments = ["adapt", str(start), str(photos), "--out", str(tmp_path / "adapted.safetensors")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, GlamError)
    assert "1 image with a name from a test set, such as landmark 00/all_souls_000013.png" in str(done.exception)
    run(*arguments[1:], "--force")
    training = glam.load(tmp_path / "adapted.safetensors", "cpu").header.training
    assert training["adapted"]["benchmark_images"] == 1
