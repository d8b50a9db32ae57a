"""Augmentation, drawn per image and applied per batch, compared with torchvision image by image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from glam.datasets.readers import read_folder
from glam.datasets.sampler import Draw
from glam.datasets.views import CORNERS, Views, apply_changes, draw_changes, draw_crop, homography_between, read_crop
from glam.errors import ImageError

DrawImage = Callable[..., Image.Image]
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WHOLE = (1.0, 1.0)


def changes(homography: np.ndarray, brightness: float = 1, contrast: float = 1, saturation: float = 1) -> Tensor:
    row = np.concatenate([homography.ravel(), [brightness, contrast, saturation]])
    return torch.from_numpy(row.astype(np.float32))[None]


def pixels_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))[None]


def test_a_batch_is_changed_as_torchvision_changes_each_image(draw_image: DrawImage) -> None:
    random = np.random.default_rng(1)
    width, height = 64, 48
    pixels, rows, expected = [], [], []
    for i in range(6):
        moved = CORNERS * (1 - random.uniform(0, 0.3, (4, 2)))
        factors = random.uniform(0.7, 1.3, 3)
        pixels.append(pixels_of(draw_image(width, height, i)))
        rows.append(changes(homography_between(moved, CORNERS), *factors))
        image = pixels[-1][0].permute(2, 0, 1).float() / 255
        start, end = (((points + 1) / 2 * (width, height)).tolist() for points in (CORNERS, moved))
        image = TF.perspective(image, start, end, interpolation=TF.InterpolationMode.BILINEAR)
        image = TF.adjust_saturation(
            TF.adjust_contrast(TF.adjust_brightness(image, factors[0]), factors[1]), factors[2]
        )
        expected.append(image)
    found = apply_changes(torch.cat(pixels), torch.cat(rows), *PLAIN)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=0)


def test_without_changes_only_the_normalization_is_left(draw_image: DrawImage) -> None:
    pixels = pixels_of(draw_image(40, 30))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = TF.normalize(pixels.permute(0, 3, 1, 2).float() / 255, list(mean), list(std))
    torch.testing.assert_close(apply_changes(pixels, changes(np.eye(3)), mean, std), expected, atol=1e-5, rtol=0)


def test_saturation_zero_is_gray(draw_image: DrawImage) -> None:
    gray = apply_changes(pixels_of(draw_image(40, 30)), changes(np.eye(3), saturation=0), *PLAIN)
    torch.testing.assert_close(gray[:, 0], gray[:, 2])


def test_crops_keep_the_share_and_nearly_the_shape() -> None:
    random = np.random.default_rng(0)
    for ratio, wanted in ((4 / 3, 4 / 3), (0.7, 0.75), (16 / 9, 3 / 2)):
        for _ in range(200):
            left, top, right, bottom = draw_crop(random, ratio, wanted, (0.5, 0.9))
            assert 0 <= left < right <= 1 + 1e-9
            assert 0 <= top < bottom <= 1 + 1e-9
            assert 0.5 - 1e-9 <= (right - left) * (bottom - top) <= 0.9 + 1e-9
            assert 1 / 1.251 <= (right - left) / (bottom - top) * ratio / wanted <= 1.251


def test_where_no_crop_fits_it_is_the_largest_in_the_middle() -> None:
    left, top, right, bottom = draw_crop(np.random.default_rng(0), 4.0, 1.0, WHOLE)
    assert (top, bottom) == (0, 1)
    assert right - left == pytest.approx(0.25)
    assert left + right == pytest.approx(1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_jpeg_is_decoded_at_a_fraction_and_upright(
    draw_image: DrawImage, tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    draw_image(800, 600).save(tmp_path / "a.jpg", quality=95, exif=exif)
    size = (75, 100) if orientation < 5 else (100, 75)
    upright = TF.to_image(Image.open(tmp_path / "a.jpg")).permute(1, 2, 0).numpy()
    upright = {1: upright, 3: np.rot90(upright, 2), 6: np.rot90(upright, -1), 8: np.rot90(upright)}[orientation]
    expected = np.asarray(Image.fromarray(np.ascontiguousarray(upright)).resize(size[::-1], Image.Resampling.BILINEAR))
    draft, decoded = JpegImageFile.draft, []

    def noted(self: JpegImageFile, mode: str, wanted: tuple[int, int]) -> object:
        done = draft(self, mode, wanted)
        decoded.append(self.size)
        return done

    monkeypatch.setattr(JpegImageFile, "draft", noted)
    found = read_crop(tmp_path / "a.jpg", size, WHOLE, np.random.default_rng(5)).numpy()
    assert found.shape == (*size, 3)
    assert decoded == [(100, 75)], "an eighth is as large as needed"
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_a_view_depends_on_seed_epoch_and_image_alone(draw_image: DrawImage, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i in range(2):
        draw_image(80, 60, i).save(tmp_path / "a" / f"{i}.jpg")
    views = Views(read_folder(tmp_path), (0.5, 1.0), 0.3, 0.3, seed=1)
    other = Views(read_folder(tmp_path), (0.5, 1.0), 0.3, 0.3, seed=2)
    first, again, later = (views[Draw(0, (32, 48), epoch)] for epoch in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[3], again[3])
    assert not torch.equal(first[0], later[0])
    assert not torch.equal(first[3], other[Draw(0, (32, 48), 0)][3])
    assert (first[1], first[2]) == (0, 0)


def test_half_of_the_views_move_their_corners_by_at_most_a_share_of_half_the_side() -> None:
    random, moved = np.random.default_rng(0), []
    for _ in range(400):
        homography = draw_changes(random, 0.3, 0.0)[:9].view(3, 3).numpy()
        corners = np.column_stack([CORNERS, np.ones(4)]) @ np.linalg.inv(homography).T
        moved.append(np.abs(corners[:, :2] / corners[:, 2:] - CORNERS).ravel())
    shares = np.array(moved)
    assert 0.4 < (shares.max(axis=1) > 1e-6).mean() < 0.6
    changed = shares[shares.max(axis=1) > 1e-6]
    assert 0.29 < changed.max() < 0.3 + 1e-5
    assert changed.mean() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("strength", [(0.4, 0.0), (0.0, 0.4)], ids=["perspective", "light"])
def test_each_strength_draws_its_own_changes(
    draw_image: DrawImage, tmp_path: Path, strength: tuple[float, float]
) -> None:
    (tmp_path / "a").mkdir()
    draw_image(80, 60).save(tmp_path / "a" / "0.jpg")
    views = Views(read_folder(tmp_path), WHOLE, *strength)
    rows = torch.stack([views[Draw(0, (32, 48), epoch)][3] for epoch in range(20)])
    none = draw_changes(np.random.default_rng(0), 0.0, 0.0)
    differs = (rows - none).abs().amax(dim=0) > 0.05
    assert (bool(differs[:9].any()), bool(differs[9:].any())) == (strength[0] > 0, strength[1] > 0)


def test_without_strength_nothing_is_drawn_to_change() -> None:
    row = draw_changes(np.random.default_rng(0), 0.0, 0.0)
    torch.testing.assert_close(row, changes(np.eye(3))[0])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_crop(tmp_path / "a.jpg", (32, 32), WHOLE, np.random.default_rng(0))
