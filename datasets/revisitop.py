"""Images of Revisited Oxford and Paris and of their million distractors (Radenović et al., CVPR 2018).

They are read as images without landmarks: which of them answer which query is the ground truth's affair, and the
evaluation's (`glam.eval`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glam.datasets.collection import Collection, ImageFile
from glam.datasets.tables import open_text, safe_path
from glam.errors import GlamError


def read_revisited(table: dict[str, Any], origin: Path) -> Collection:
    """The database images of ROxford5k or RParis6k, in the ground truth's order.

    Args:
        table: what ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl`` holds.
        origin: the pickle; the images are in the folder ``jpg`` beside it.

    Raises:
        GlamError: its list of images is not one of names.
    """
    names = table["imlist"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GlamError(f"{origin}: its 'imlist' is not a list of names")
    return _images((f"{name}.jpg" for name in names), origin)


def read_list(file: Path) -> Collection:
    """Reads a list of images with one path a line, such as ``revisitop1m.txt``; empty lines count for nothing.

    The images are below the folder ``jpg`` beside it, or else below the list's own folder.

    Raises:
        GlamError: there is no such file, it is not text, or a path leads out of the folder.
    """
    with open_text(file) as text:
        return _images((line.strip() for line in text if line.strip()), file)


def _images(paths: Iterable[str], origin: Path) -> Collection:
    folder = origin.parent / "jpg"
    root = folder if folder.is_dir() else origin.parent
    return Collection(root, tuple(ImageFile(safe_path(path, origin)) for path in paths))
