"""A folder of twelve files of three places, and an index of it."""

from pathlib import Path
from typing import Any

import pytest

from glam.datasets.readers import read_folder
from glam.index import build
from tests.index.operations.photos import COUNT, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for i in range(COUNT):
        write(root / f"place {i % 3}" / f"{i}.jpg", f"content {i}")
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any) -> Path:
    build(tmp_path / "i.glam", read_folder(folder), content_model)
    content_model.described.clear()
    return tmp_path / "i.glam"
