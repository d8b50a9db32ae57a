"""What the tests of benchmarks share: small photographs of landmarks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def landmarks(tmp_path: Path, draw_image: Callable[..., Image.Image]) -> Path:
    """train/ and val/ with three landmarks of four views each, and distractors/."""
    for folder, first in (("train", 0), ("val", 3), ("distractors", 6)):
        for landmark in range(3):
            path = tmp_path / "photographs" / folder / f"{first + landmark}"
            path.mkdir(parents=True)
            view = np.asarray(draw_image(72, 56, first + landmark), dtype=np.int16)
            for i in range(4):
                noise = np.random.default_rng([first + landmark, i]).normal(0, 25, view.shape)
                Image.fromarray((view + noise).clip(0, 255).astype(np.uint8)).save(path / f"{i}.webp", lossless=True)
    return tmp_path / "photographs"
