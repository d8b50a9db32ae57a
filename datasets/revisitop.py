"""Images of Revisited Oxford and Paris and their million distractors (Radenović et al., CVPR 2018, arXiv 1803.11285).

The images are read without landmarks. The judgments of the ground truth are read by `glam.eval.ground_truth`.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from glam.datasets.collection import Collection, ImageFile
from glam.datasets.tables import open_text, safe_path
from glam.errors import GlamError


def read_revisited(table: dict[str, Any], origin: Path) -> Collection:
    """Lists the database images of ROxford5k or RParis6k, in the order of the ground truth.

    Args:
        table: content of ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``.
        origin: path of the pickle. The images are in the folder ``jpg`` next to it or, without one, in its own folder.

    Raises:
        GlamError: the list of images in the table is not a list of names, or a path leads out of the folder.
    """
    names = table["imlist"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GlamError(f"{origin}: 'imlist' is not a list of names. Download the published file again.")
    return _images((f"{name}.jpg" for name in names), origin)


def read_list(file: Path) -> Collection:
    """Reads a list of images such as ``revisitop1m.txt``.

    Args:
        file: text file with one path per line; blank lines and repeated paths are ignored. The images are in the
            folder ``jpg`` next to it or, without one, in its own folder.

    Raises:
        GlamError: the file cannot be read, is not text, or contains a path that leads out of the folder.
    """
    with open_text(file) as text:
        listed = _images((line.strip() for line in text if line.strip()), file)
    return replace(listed, images=tuple({image.path: image for image in listed.images}.values()))


def _images(paths: Iterable[str], origin: Path) -> Collection:
    folder = origin.parent / "jpg"
    root = folder if folder.is_dir() else origin.parent
    return Collection(root, tuple(ImageFile(safe_path(path, origin, root)) for path in paths))
