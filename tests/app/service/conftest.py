"""A service on a small made-up index of plain colors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from glam.index import Index

from .colors import BLUE, GREEN, RED, ColorModel, app_of, halves, index_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, color in {"red": RED, "green": GREEN, "blue": BLUE}.items():
        Image.new("RGB", (40, 20), color).save(folder / f"{name}.png")
    halves(RED, BLUE, (80, 40)).save(folder / "both.jpg", quality=95)
    return folder


@pytest.fixture
def model() -> ColorModel:
    return ColorModel()


@pytest.fixture
def index(root: Path, model: ColorModel) -> Iterator[Index]:
    with index_of(root, ["red.png", "green.png", "blue.png", "both.jpg"], model) as index:
        yield index


@pytest.fixture
def client(index: Index, model: ColorModel) -> Iterator[TestClient]:
    with TestClient(app_of(index, model)) as client:
        yield client
