"""Bundled YAML configurations of `glam train`, selected with `--config NAME`."""

from importlib import resources
from pathlib import Path


def bundled_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = resources.files("glam.training.configs")
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if str(f).endswith(".yaml")}
