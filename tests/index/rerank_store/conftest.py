"""Fixtures: an index that stores local features and the kNN graph."""

from pathlib import Path
from typing import Any

import pytest

from glam.datasets.readers import read_folder
from glam.index import build, precompute

from .stored import COUNT, Draw


@pytest.fixture
def folder(tmp_path: Path, draw_image: Draw) -> Path:
    root = tmp_path / "photos"
    for i in range(COUNT):
        (root / f"place {i % 5}").mkdir(parents=True, exist_ok=True)
        draw_image(64, 48, i).save(root / f"place {i % 5}" / f"{i:02d}.png")
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any) -> Path:
    path = tmp_path / "i.glam"
    build(path, read_folder(folder), content_model)
    precompute(path, local_features=True, knn_graph=True)
    return path
