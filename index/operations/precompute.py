"""What an index keeps for reranking: local features, and the graph of nearest images.

    glam index keep --> keep --> Writer: features of the images that lack them, the graph, one transaction for each file

From then on every writer keeps them current: `Writer.add` makes the features of what it adds, and the graph follows as
a writer closes the index. They are not made while an index is built, unless it keeps them already: not every chain
wants them, and they cost about as much again as describing the images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank_store.files import FEATURES, NEIGHBOURS, kept_files, put_kept, with_kind
from glam.index.rerank_store.local_features import features_of_all, usable_files
from glam.index.writer import Writer, open_writer

BATCH = 256
"""Images a transaction: what a kill can cost."""

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""


@dataclass(frozen=True)
class KeepReport:
    """What an index keeps now.

    Attributes:
        keeps: of `glam.index.rerank_store.files.KINDS`.
        images: present ones.
        features: how many of them have their local features kept; the others' files cannot be read, or changed since.
        bytes: of the files.
    """

    keeps: tuple[str, ...]
    images: int
    features: int
    bytes: int


def keep(
    path: str | Path,
    *,
    features: bool | None = None,
    neighbours: bool | None = None,
    progress: Progress = lambda done, total: None,
    limits: IndexLimits = DEFAULT_LIMITS,
) -> KeepReport:
    """Makes what reranking is quicker with, or cannot do without, and has it kept from now on. Killed and run again,
    it goes on where it stopped.

    Args:
        path: folder of the index.
        features: whether to keep local features (`geometric`; without, they are made for each query again); None leaves
            what there is.
        neighbours: whether to keep the graph of nearest images (`dba`, `diffusion`, `reciprocal`); likewise.
        progress: called as it goes, for the features, then for the graph.
        limits: sizes and times at which the index changes how it works.

    Raises:
        GlamError: there is no index, another writer is at work, or the disk is full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        for kind, wanted in ((FEATURES, features), (NEIGHBOURS, neighbours)):
            if wanted is False:
                _drop(writer, kind)
        if features:
            _keep_features(writer, progress)
        if neighbours:
            writer.renew_graph(progress, begin=True)
        catalogue = writer.catalogue
        present = np.array([image.id for image in catalogue.stored() if image.present], np.int64)
        kept = np.concatenate([np.empty(0, np.int64), *(file.images for file in usable_files(catalogue))])
        files = (file.path(writer.path) for file in kept_files(catalogue))
        size = sum(file.stat().st_size for file in files if file.exists())
        return KeepReport(writer.about.keeps, len(present), int(np.isin(present, kept).sum()), size)


def _drop(writer: Writer, kind: str) -> None:
    files, about = kept_files(writer.catalogue, kind), writer.about
    if files or kind in about.keeps:
        writer.changes()
        with writer.catalogue.transaction():
            put_kept(writer.catalogue, None, files)
            writer.catalogue.set_about(replace(about, keeps=tuple(name for name in about.keeps if name != kind)))


def _keep_features(writer: Writer, progress: Progress) -> None:
    """Makes the features of the images that lack them, in batches."""
    catalogue, about = writer.catalogue, writer.about
    usable = [file for file in usable_files(catalogue) if file.is_sound(writer.path)]
    numbers = {file.number for file in usable}
    others = [file for file in kept_files(catalogue, FEATURES) if file.number not in numbers]
    if others or FEATURES not in about.keeps:
        writer.changes()
        with catalogue.transaction():
            put_kept(catalogue, None, others)
            catalogue.set_about(replace(about, keeps=with_kind(about.keeps, FEATURES)))
    kept = {image for file in usable for image in file.images.tolist()}
    lacking = [image for image in catalogue.stored() if image.present and image.id not in kept]
    for start in range(0, len(lacking), BATCH):
        batch = lacking[start : start + BATCH]
        made: list[LocalFeatures | None] = []
        for features in features_of_all(Path(about.root), [image.facts for image in batch]):
            made.append(features)
            progress(start + len(made), len(lacking))
        writer.add_features(np.array([image.id for image in batch], np.int64), made)
