"""Training descriptors on landmarks with Lightning.

    train                            run `glam train` from Python
    LandmarkData, LandmarkModule     what it trains on, and what it trains
    bundled_configs                  the configurations that come with the package, by name

Names are imported on first use, so that `import glam.training` stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glam.training.cli import bundled_configs, train
    from glam.training.data import LandmarkData
    from glam.training.module import LandmarkModule

__all__ = ["LandmarkData", "LandmarkModule", "bundled_configs", "train"]

_HOMES = {"LandmarkData": "data", "LandmarkModule": "module", "bundled_configs": "cli", "train": "cli"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"glam.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'glam.training' has no attribute {name!r}")
