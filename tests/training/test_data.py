"""The data module: effects of its options on batches, in workers and on the device."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from glam.training.data import Batch, ImageFormat, LandmarkData
from glam.training.module import LandmarkModule

DrawImage = Callable[..., Image.Image]


@pytest.fixture
def landmarks(tmp_path: Path, draw_image: DrawImage) -> Path:
    """Four landmarks of two images."""
    for i in range(8):
        folder = tmp_path / "landmarks" / str(i // 2)
        folder.mkdir(parents=True, exist_ok=True)
        draw_image(72, 56, i).save(folder / f"{i}.jpg")
    return tmp_path / "landmarks"


def batches(landmarks: Path, workers: int = 0, **options: Any) -> list[Batch]:
    """The batches of the first epoch, as they reach the module."""
    data = LandmarkData(landmarks, val_share=0.5, size=64, batch_size=2, workers=workers, **options)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    data.image_format = ImageFormat(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_and_device_make_the_same_views(landmarks: Path, workers: int) -> None:
    in_workers = batches(landmarks, workers, augment_on="workers")
    on_device = batches(landmarks, augment_on="device")
    assert len(in_workers) == len(on_device) == 2
    for ours, expected in zip(in_workers, on_device, strict=True):
        for part, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(part, other)


@pytest.mark.parametrize("augment_on", ["workers", "device"])
@pytest.mark.parametrize("option", ["perspective", "light", "crop"])
def test_each_kind_of_augmentation_changes_the_images(landmarks: Path, option: str, augment_on: str) -> None:
    none = {"perspective": 0.0, "light": 0.0, "crop": 1.0}
    strong = {"perspective": 0.5, "light": 0.5, "crop": 0.3}
    plain = batches(landmarks, augment_on=augment_on, **none)
    changed = batches(landmarks, augment_on=augment_on, **{**none, option: strong[option]})
    assert any((a[0] - b[0]).abs().mean() > 0.05 for a, b in zip(plain, changed, strict=True))


def test_a_module_tells_its_data_what_the_network_takes(landmarks: Path) -> None:
    """No trainer is needed to connect the two."""
    data = LandmarkData(landmarks, val_share=0.5, size=64, batch_size=2)
    module = LandmarkModule("resnet10t", 8, pretrained=False, stride=16)
    module.connect(data)
    backbone = module.network.backbone
    assert module.data is data
    assert data.image_format == ImageFormat(16, tuple(backbone.mean), tuple(backbone.std))
