"""Describing images: alone or in a batch, at sizes and scales, with boxes, and around files that cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import glam
from glam.errors import GlamError, ImageError
from glam.model import Model
from glam.sizes import fitted_size

Draw = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def model() -> Model:
    return glam.load("timm:tf_efficientnet_lite0", device="cpu")


def test_a_descriptor_does_not_depend_on_its_batch(model: Model, draw_image: Draw) -> None:
    """32 images of several sizes, in one call and one by one."""
    images = [draw_image(*size, seed) for seed, size in enumerate([(96, 64), (64, 96), (90, 70), (100, 100)] * 8)]
    together = model.describe(images, size=96, batch_size=32)
    alone = np.concatenate([model.describe([image], size=96) for image in images])
    assert np.abs(together - alone).max() < 1e-5


def test_descriptors_have_unit_length_and_tell_images_apart(model: Model, draw_image: Draw) -> None:
    descriptors = model.describe([draw_image(80, 60, 0), draw_image(80, 60, 1)], size=80)
    assert descriptors.shape == (2, model.dim)
    assert descriptors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-5)
    assert descriptors[0] @ descriptors[1] < 0.99


def test_an_unreadable_file_shifts_no_row(model: Model, draw_image: Draw, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    images = [draw_image(64, 48, 0), bad, draw_image(48, 64, 1)]
    errors: list[ImageError] = []
    descriptors = model.describe(images, size=64, errors=errors)
    assert np.isnan(descriptors[1]).all()
    np.testing.assert_allclose(descriptors[[0, 2]], model.describe([images[0], images[2]], size=64), atol=1e-5)
    assert [(error.source, error.reason) for error in errors] == [(str(bad), "not an image that can be read")]
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        model.describe(images, size=64)


def test_a_box_describes_the_crop(model: Model, draw_image: Draw) -> None:
    image = draw_image(128, 96)
    whole, boxed = model.describe([image, image], boxes=[None, (32, 16, 96, 80)], size=96)
    crop = model.describe([image.crop((32, 16, 96, 80))], size=96)[0]
    np.testing.assert_allclose(boxed, crop, atol=1e-5)
    assert whole @ boxed < 0.999


def test_scales_are_averaged(model: Model, draw_image: Draw) -> None:
    image = draw_image(96, 64)
    one, half = model.describe([image], size=96, scales=[1]), model.describe([image], size=96, scales=[0.5])
    both = model.describe([image], size=96, scales=[1, 0.5])
    mean = one + half
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (7, 900)])
def test_images_of_any_shape_are_described(model: Model, size: tuple[int, int]) -> None:
    assert np.isfinite(model.describe([Image.new("RGB", size, "red")], size=128)).all()


def test_no_images_give_no_rows(model: Model) -> None:
    assert model.describe([]).shape == (0, model.dim)


def test_senseless_settings_are_refused(model: Model) -> None:
    for size in (-3, 0):
        with pytest.raises(GlamError, match=f"The size {size} is not positive"):
            model.settings(size=size)
    for scales in ([1, 0], [-1], [float("nan")], [float("inf")], []):
        with pytest.raises(GlamError, match="are not a list of positive numbers"):
            model.settings(scales=scales)


def test_one_image_is_described_without_a_list(model: Model, draw_image: Draw, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    image = draw_image(64, 48)
    image.save(file)
    expected = model.describe([file], size=64)
    for source in (file, str(file), file.read_bytes(), image, np.asarray(image)):
        np.testing.assert_allclose(model.describe(source, size=64), expected, atol=1e-5)
    with pytest.raises(ImageError, match=r"^nowhere\.jpg: no such file$"):
        model.describe("nowhere.jpg")


def test_images_may_come_from_a_generator_or_a_stack(model: Model, draw_image: Draw) -> None:
    images = [draw_image(64, 48, seed) for seed in range(3)]
    expected = model.describe(images, size=64)
    np.testing.assert_allclose(model.describe((image for image in images), size=64), expected, atol=1e-5)
    np.testing.assert_allclose(model.describe(np.stack([np.asarray(i) for i in images]), size=64), expected, atol=1e-5)


@pytest.mark.parametrize("source", [None, 3, torch.zeros(3, 5, 5), object(), [8]])
def test_what_is_no_image_is_one_sentence(model: Model, source: Any) -> None:
    with pytest.raises(ImageError, match=r"^object of type \w+: not an image; pass a path"):
        model.describe([source])
    with pytest.raises(GlamError, match="type"):
        model.describe(source)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_one_sentence(model: Model, draw_image: Draw, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"Pillow image: {size[0]} x {size[1]} pixels"):
        model.describe([Image.new("RGB", size)])
    errors: list[ImageError] = []
    rows = model.describe([Image.new("RGB", size), draw_image(64, 48)], size=64, errors=errors)
    assert np.isnan(rows[:, 0]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(640, 480, (240, 320)), (480, 640, (320, 240)), (200, 100, (96, 192)), (3000, 10, (16, 320)), (1, 1, (16, 16))],
)
def test_aspect_ratio_is_kept_and_nothing_enlarged(width: int, height: int, expected: tuple[int, int]) -> None:
    assert fitted_size(width, height, longest=320, multiple=16) == expected
