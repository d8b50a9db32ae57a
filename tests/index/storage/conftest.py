"""What the tests of damaged indexes share: an index that uses every kind of file."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glam.datasets.collection import ScanOptions
from glam.index import build, precompute, remove
from glam.index.operations.source import read_images
from tests.index.storage.foreign import LIMITS


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i in range(10):
        tile = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(tile).resize((40, 30)).save(root / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def original(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with two segments, a removed image, a saved structure, local features, and a kNN graph."""
    from tests.conftest import ContentModel

    index = tmp_path_factory.mktemp("index") / "i.glam"
    model: Any = ContentModel()
    build(index, read_images(photos, ScanOptions(exclude=("drafts/",))), model, limits=LIMITS)
    precompute(index, local_features=True, knn_graph=True, limits=LIMITS)
    remove(index, ["9.png"], limits=LIMITS)
    return index


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "i.glam"))
