"""Whitening: its effect on descriptors, its storage in the model file, and its errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import glam
from glam import Architecture, DescriptorNetwork, GlamError, model_file
from glam.app.cli.main import app
from glam.eval.whitening import Whitening, benchmark_images, fit_whitening, with_whitening, without_whitening
from glam.inference.pipeline import describe_tensor

DIM = 12


@pytest.fixture
def training() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Descriptors of 60 landmarks, 8 images each, that differ most where landmarks do not."""
    rng = np.random.default_rng(0)
    landmark_ids = np.repeat(np.arange(60), 8)
    spread = np.linspace(0.2, 3, DIM)
    descriptors = (
        rng.standard_normal((60, DIM))[landmark_ids] / spread
        + rng.standard_normal((len(landmark_ids), DIM)) * spread / 2
    )
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32), landmark_ids


def applied(whitening: Whitening, descriptors: NDArray[np.float32]) -> NDArray[np.float64]:
    projected: NDArray[np.float64] = (descriptors - whitening.mean) @ whitening.projection.T
    return projected


def test_pca_makes_all_directions_vary_alike(training: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    descriptors, landmark_ids = training
    white = applied(fit_whitening("pca", descriptors, landmark_ids, DIM), descriptors)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(DIM), atol=1e-4)


def test_learned_makes_pairs_of_a_landmark_differ_alike_and_orders_by_variance(
    training: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    descriptors, landmark_ids = training
    white = applied(fit_whitening("learned", descriptors, landmark_ids, DIM), descriptors)
    pairs = [
        (i, j)
        for i in range(len(descriptors))
        for j in range(i + 1, len(descriptors))
        if landmark_ids[i] == landmark_ids[j]
    ]
    differences = np.array([white[i] - white[j] for i, j in pairs])
    scatter = differences.T @ differences / len(pairs)
    np.testing.assert_allclose(scatter / scatter[0, 0], np.eye(DIM), atol=1e-4)  # reference: pair by pair
    assert (np.diff(white.var(axis=0)) <= 1e-6).all()


def test_learned_brings_a_landmarks_images_together(
    training: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    descriptors, landmark_ids = training
    half = landmark_ids < 30
    white = applied(fit_whitening("learned", descriptors[half], landmark_ids[half], DIM), descriptors[~half])
    white /= np.linalg.norm(white, axis=1, keepdims=True)

    def nearest_is_right(descriptors: NDArray[np.floating]) -> float:
        scores = descriptors @ descriptors.T - 9 * np.eye(len(descriptors))
        return float((landmark_ids[~half][scores.argmax(axis=1)] == landmark_ids[~half]).mean())

    assert nearest_is_right(white) > nearest_is_right(descriptors[~half]) + 0.05


def test_shrinkage_adds_to_the_variance_of_the_differences(
    training: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    descriptors, landmark_ids = training
    means = np.stack([descriptors[landmark_ids == landmark].mean(axis=0) for landmark in range(60)])
    differences = (descriptors - means[landmark_ids]).astype(np.float64)
    scatter = differences.T @ differences / len(differences)
    shrunk = scatter + 2 * descriptors.var(axis=0, dtype=np.float64).mean() * np.eye(DIM)
    projection = fit_whitening("learned", descriptors, landmark_ids, DIM, shrinkage=2.0).projection
    np.testing.assert_allclose(projection @ shrunk @ projection.T, np.eye(DIM), atol=1e-6)


def test_shrinkage_allows_fewer_images_than_dimensions(
    training: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    descriptors, landmark_ids = training
    whitening = fit_whitening("learned", descriptors[:10], landmark_ids[:10], DIM, shrinkage=1.0)
    assert np.isfinite(whitening.projection).all()


def test_too_few_images_are_told(training: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    descriptors, landmark_ids = training
    with pytest.raises(GlamError, match="too few to learn"):
        fit_whitening("learned", descriptors[:10], landmark_ids[:10], DIM)
    with pytest.raises(GlamError, match="fewer than 12 dimensions"):
        fit_whitening("pca", descriptors[:10], landmark_ids[:10], DIM)
    with pytest.raises(GlamError, match="so 13 cannot be kept"):
        fit_whitening("pca", descriptors, landmark_ids, 13)


def test_the_model_file_keeps_it(tmp_path: Path) -> None:
    network = DescriptorNetwork(Architecture("resnet18", dim=DIM, attention=None)).eval()
    rng = np.random.default_rng(0)
    whitening = Whitening(rng.standard_normal(DIM), rng.standard_normal((5, DIM)))
    whitened = with_whitening(network, whitening)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = applied(whitening, network(images).numpy())
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(whitened(images), expected, atol=1e-5)
        np.testing.assert_allclose(whitening.apply(network(images).numpy()), expected, atol=1e-6)
    assert model_file.fingerprint(whitened) != model_file.fingerprint(network)
    model_file.save(tmp_path / "m.safetensors", whitened, model_file.ModelHeader(whitened.architecture, 64))
    model = glam.load(tmp_path / "m.safetensors", "cpu")
    assert model.dim == 5
    assert model.fingerprint == model_file.fingerprint(whitened)
    with pytest.raises(GlamError, match="already has a whitening"):
        with_whitening(model.network, whitening)
    bare = without_whitening(model.network)
    assert model_file.fingerprint(bare) == model_file.fingerprint(network)


def test_several_scales_are_averaged_before_it() -> None:
    """The whitening is fitted to descriptors that are averaged over scales, so it is applied to those."""
    torch.manual_seed(0)
    network = DescriptorNetwork(Architecture("resnet10t", dim=8, attention=None, whitening=4)).eval()
    images, scales = torch.rand(2, 3, 64, 128), (0.5, 1.0)
    with torch.no_grad():
        small = torch.nn.functional.interpolate(images, size=(32, 64), mode="bilinear", antialias=True)
        average = torch.nn.functional.normalize(network.unwhitened(images) + network.unwhitened(small), dim=1)
        torch.testing.assert_close(describe_tensor(network, images, scales), network.whitened(average))


def test_images_of_the_test_sets_are_known_by_their_names() -> None:
    paths = ["a/all_souls_000013.jpg", "paris_eiffel_000001.webp", "all_souls/1.jpg", "paris_000001.jpg", "new_1.jpg"]
    assert benchmark_images(paths) == paths[:2]


def test_the_command_fits_and_refuses_the_test_set(tmp_path: Path, draw_image: Callable[..., Image.Image]) -> None:
    network = DescriptorNetwork(Architecture("resnet18", dim=4, attention=None)).eval()
    model = tmp_path / "m.safetensors"
    model_file.save(model, network, model_file.ModelHeader(network.architecture, 32, licence="mine"))
    for i in range(16):
        file = tmp_path / "photos" / f"place{i % 4}" / f"oxford_{i:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_image(32, 32, seed=i).save(file)
    out = tmp_path / "w.safetensors"
    command = ["whiten", "fit", str(tmp_path / "photos"), "--model", str(model), "--out", str(out), "--device", "cpu"]
    refused = CliRunner().invoke(app, command)
    assert "16 images with a name from a test set" in str(refused.exception)
    assert not out.exists()
    done = CliRunner().invoke(app, [*command, "--force", "--dim", "3"])
    assert done.exit_code == 0, done.output
    header = model_file.read_header(out)
    assert header.architecture.whitening == 3
    assert header.licence == "mine"
    assert header.training["whitening"]["photographs"] == header.training["whitening"]["benchmark_images"] == 16
