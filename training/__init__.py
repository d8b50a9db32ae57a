"""Training of descriptor networks on landmarks, with Lightning.

    train                            run `glam train` from Python
    LandmarkData, LandmarkModule     the Lightning data module and the Lightning module
    bundled_configs                  the configurations that come with the package, by name

Names are imported on first use, so that `import glam.training` stays light.
"""

from typing import TYPE_CHECKING

from glam.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from glam.training.cli import train
    from glam.training.configs import bundled_configs
    from glam.training.data import LandmarkData
    from glam.training.module import LandmarkModule

__all__ = ["LandmarkData", "LandmarkModule", "bundled_configs", "train"]

__getattr__ = lazy_exports(
    __name__, {"LandmarkData": "data", "LandmarkModule": "module", "bundled_configs": "configs", "train": "cli"}
)
