"""What tests share: the photographs beside the repository, and small images made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs, with train/, val/ and distractors/."""
    folder = SHARED / "landmarks"
    if not folder.is_dir():
        pytest.skip("the photographs are not in ../shared/landmarks")
    return folder


@pytest.fixture
def draw_image() -> Callable[..., Image.Image]:
    """Draws an image of smooth random colours, another for each seed."""

    def draw(width: int, height: int, seed: int = 0) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return draw
