"""Substitutes for unreadable images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glam.datasets.collection import Collection
from glam.datasets.readers import read_folder
from glam.datasets.sampler import Draw
from glam.datasets.substitutes import Readable, collate_readable
from glam.datasets.views import Views

DrawImage = Callable[..., Image.Image]


@pytest.fixture
def collection(tmp_path: Path, draw_image: DrawImage) -> Collection:
    """Three landmarks of four images. Image 0 is cut off behind its header."""
    for i in range(12):
        folder = tmp_path / str(i // 4)
        folder.mkdir(exist_ok=True)
        draw_image(72, 56, i).save(folder / f"{i:02}.jpg")
    cut(tmp_path / "0" / "00.jpg")
    return read_folder(tmp_path)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:800])


def readable(collection: Collection, *, substituted: bool = True, seed: int = 0) -> Readable:
    views = Views(collection, (0.5, 1.0), 0.3, 0.3)
    return Readable(collection, views, substituted=substituted, seed=seed)


def drawn(collection: Collection, seed: int = 0) -> list[int]:
    """The image that takes the place of image 0 in each of 20 epochs."""
    items = readable(collection, seed=seed)
    return [items[Draw(0, (32, 48), epoch)][0][2] for epoch in range(20)]


def test_another_image_of_the_landmark_takes_the_place_of_an_unreadable_one(collection: Collection) -> None:
    item, reasons = readable(collection)[Draw(0, (32, 48), 0)]
    assert item[0].shape == (32, 48, 3)
    assert item[1] == collection.landmark_ids[0]
    assert [path for path, _ in reasons] == [str(collection.file(0))]
    assert set(drawn(collection)) == {1, 2, 3}


def test_the_choice_depends_on_seed_epoch_and_image_alone(collection: Collection) -> None:
    assert drawn(collection) == drawn(collection)
    assert drawn(collection) != drawn(collection, seed=1)


def test_an_image_of_another_landmark_is_the_last_resort(collection: Collection) -> None:
    for i in range(1, 4):
        collection.file(i).unlink()
    item, reasons = readable(collection)[Draw(0, (32, 48), 0)]
    assert item[1] == collection.landmark_ids[item[2]] != collection.landmark_ids[0]
    assert {path for path, _ in reasons} == {str(collection.file(i)) for i in range(4)}


@pytest.mark.parametrize("substituted", [True, False])
def test_an_item_without_a_readable_image_is_dropped_from_its_batch(collection: Collection, substituted: bool) -> None:
    for i in range(12):
        cut(collection.file(i)) if substituted else None
    items = readable(collection, substituted=substituted)
    item, reasons = items[Draw(0, (32, 48), 0)]
    assert item is None
    assert reasons
    other: tuple[Any, list[Any]] = ("item", [])
    assert collate_readable([(item, reasons), other], list) == (["item"], reasons)
    assert collate_readable([(item, reasons)], list) == (None, reasons)
