"""Building an index from a collection of images.

    collection --describe--> batches of descriptors --> descriptors.f32, then one transaction of the catalogue

A batch is in the index once the catalogue has it: a build that is killed and run again goes on after the last whole
batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glam.datasets.collection import Collection, Photo
from glam.describe import Described, Settings
from glam.errors import GlamError
from glam.index import descriptors as descriptor_file
from glam.index.catalogue import About, Catalogue, Entry
from glam.index.search import CATALOGUE, DESCRIPTORS
from glam.model import Model

COMMIT_EVERY = 256
"""Images a transaction: what a kill can cost."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        added: images that were described and added.
        present: images that were in the index before.
        unreadable: (path, reason) of each file that could not be read this time.
    """

    added: int
    present: int
    unreadable: tuple[tuple[str, str], ...]


def build(
    path: str | Path,
    collection: Collection,
    model: Model,
    *,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Builds an index, or goes on with one that was begun with the same model and settings.

    Args:
        path: folder of the index, made if it is not there.
        collection: the images.
        model: describes them.
        settings: size and scales; the model's own by default.
        progress: called with images done and images in all, as it goes.

    Raises:
        GlamError: the index at ``path`` was built with another model, other settings or from another folder.
    """
    settings = settings or model.settings()
    catalogue = _open_or_create(Path(path), _about(collection, model, settings))
    try:
        known = catalogue.paths()
        todo = [photo for photo in collection.photos if photo.path not in known]
        present = len(collection) - len(todo)
        files = ((collection.root / photo.path, None) for photo in todo)
        unreadable: list[tuple[str, str]] = []
        batch: list[tuple[Photo, Described]] = []
        progress(present, len(collection))
        for done, described in enumerate(model.stream(files, settings), start=1):
            batch.append((todo[described.position], described))
            if len(batch) == COMMIT_EVERY or done == len(todo):
                unreadable += _commit(Path(path), catalogue, batch)
                batch = []
            progress(present + done, len(collection))
        return BuildReport(len(todo) - len(unreadable), present, tuple(unreadable))
    finally:
        catalogue.close()


def _about(collection: Collection, model: Model, settings: Settings) -> About:
    root = str(collection.root.resolve())
    return About(model.name, model.fingerprint, model.dim, settings.size, settings.scales, root)


def _open_or_create(path: Path, about: About) -> Catalogue:
    """The catalogue at ``path`` if it was begun in the same way, or a new one."""
    if not (path / CATALOGUE).exists():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise GlamError(f"{path}: something else is there; an index wants a new or empty folder")
        path.mkdir(parents=True, exist_ok=True)
        return Catalogue.create(path / CATALOGUE, about)
    catalogue = Catalogue.open(path / CATALOGUE)
    was = catalogue.about
    for name in ("fingerprint", "size", "scales", "root"):
        if getattr(was, name) != getattr(about, name):
            catalogue.close()
            raise GlamError(
                f"{path} was begun with the {name} {getattr(was, name)!r}"
                f"{f' (model {was.model!r})' if name == 'fingerprint' else ''}, not {getattr(about, name)!r}; "
                "build another index, or use the same"
            )
    return catalogue


def _commit(path: Path, catalogue: Catalogue, batch: list[tuple[Photo, Described]]) -> list[tuple[str, str]]:
    """Adds one batch: descriptors first, then the catalogue, which makes them count. Returns the unreadable ones."""
    first = len(catalogue)
    rows = [described.descriptor for _, described in batch if described.descriptor is not None]
    if rows:
        descriptor_file.append(path / DESCRIPTORS, first, np.stack(rows))
    read = [(photo, described) for photo, described in batch if described.error is None]
    unreadable = [(photo.path, described.error.reason) for photo, described in batch if described.error is not None]
    catalogue.add(
        [Entry(first + i, photo.path, photo.landmark, d.width, d.height) for i, (photo, d) in enumerate(read)],
        unreadable,
    )
    return unreadable
