"""Landmark image retrieval with GLAM descriptors.

    model = glam.load("glam-lite0")
    descriptors = model.describe(["a.jpg", "b.jpg"])          # (2, dim) float32, unit length
    with glam.index.open("places.glam") as index:
        hits = index.search(descriptors, k=10)                # one list of hits per query

Names are imported on first use, so `import glam` and `glam --help` do not load PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from glam.errors import GlamError, ImageError
from glam.fork import prepare_for_forks
from glam.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from glam.app.client import Client
    from glam.attention import GLAM
    from glam.model import Model, load
    from glam.network import Architecture, DescriptorNetwork
    from glam.pooling import GeM
    from glam.pooling_fusion import attend_and_pool

prepare_for_forks()

__version__ = "0.1.0"
__all__ = [
    "GLAM",
    "Architecture",
    "Client",
    "DescriptorNetwork",
    "GeM",
    "GlamError",
    "ImageError",
    "Model",
    "attend_and_pool",
    "load",
]

_export = lazy_exports(
    __name__,
    {
        "GLAM": "attention",
        "Architecture": "network",
        "Client": "app.client",
        "DescriptorNetwork": "network",
        "GeM": "pooling",
        "Model": "model",
        "attend_and_pool": "pooling_fusion",
        "load": "model",
    },
)
_SUBPACKAGES = frozenset({"app", "datasets", "eval", "index", "kernels", "training"})


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"glam.{name}")
    return _export(name)
