"""`precompute`: computes and stores the data that re-ranking uses, which are local features and the kNN graph.

    glam index precompute --> precompute --> Writer: missing local features, then the kNN graph; a transaction per file

Every later writer keeps stored data up to date: `Writer.add` extracts the local features of new images, and a writer
updates the graph when it closes the index. `build` does not precompute, because this takes about as long as describing
the images and not every re-ranking step needs it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.rerank_store.files import KNN_GRAPH, LOCAL_FEATURES, public_names, register_file, store_files, with_kind
from glam.index.rerank_store.local_features import features_of_all, usable_files
from glam.index.writer import Writer, open_writer
from glam.progress import Progress, no_progress

BATCH = 256
"""Images per transaction (arbitrary): the work that a kill can lose."""


@dataclass(frozen=True)
class PrecomputeReport:
    """The result of `precompute`: what the index stores for re-ranking.

    Attributes:
        precomputed: ``local_features``, ``knn_graph``, both or neither.
        images: number of images in the index.
        local_features: number of images whose local features are stored. The files of the others have changed or
            cannot be read.
        bytes: total size of the stored files, in bytes.
    """

    precomputed: tuple[str, ...]
    images: int
    local_features: int
    bytes: int


def precompute(
    path: str | Path,
    *,
    local_features: bool | None = None,
    knn_graph: bool | None = None,
    progress: Progress = no_progress,
    limits: IndexLimits = DEFAULT_LIMITS,
) -> PrecomputeReport:
    """Precomputes the data that re-ranking uses. Later writers keep it up to date. Run it again to resume.

    Args:
        path: folder of the index.
        local_features: True stores the local features of each image, which `geometric` otherwise extracts again for
            each query; False deletes them; None changes nothing.
        knn_graph: True stores the nearest neighbors of each image, which `dba`, `diffusion`, and `reciprocal` need;
            False deletes them; None changes nothing.
        progress: called with the number of images done and the total, first for the features, then for the graph.
        limits: limits of the index.

    Returns:
        What the index stores afterwards.

    Raises:
        GlamError: there is no index, another writer is active, or the disk is full.
    """
    with open_writer(Path(path), limits=limits) as writer:
        for kind, choice in ((LOCAL_FEATURES, local_features), (KNN_GRAPH, knn_graph)):
            if choice is False:
                _drop(writer, kind)
        if local_features:
            _store_local_features(writer, progress)
        if knn_graph:
            writer.update_knn_graph(progress, begin=True)
        catalog = writer.catalog
        present = np.array([image.image_id for image in catalog.stored_images() if image.present], np.int64)
        stored_ids = np.concatenate([np.empty(0, np.int64), *(file.image_ids for file in usable_files(catalog))])
        files = (file.path(writer.path) for file in store_files(catalog))
        size = sum(file.stat().st_size for file in files if file.exists())
        stored = int(np.isin(present, stored_ids).sum())
        return PrecomputeReport(public_names(writer.config.keeps), len(present), stored, size)


def _drop(writer: Writer, kind: str) -> None:
    """Deletes the stored data of a kind, and stops updating it."""
    files, config = store_files(writer.catalog, kind), writer.config
    if files or kind in config.keeps:
        writer.begin_changes()
        with writer.catalog.transaction():
            register_file(writer.catalog, None, files)
            writer.catalog.set_config(replace(config, keeps=tuple(name for name in config.keeps if name != kind)))


def _store_local_features(writer: Writer, progress: Progress) -> None:
    """Extracts and stores the local features of the images that lack them, in batches."""
    catalog, config = writer.catalog, writer.config
    usable = [file for file in usable_files(catalog) if file.is_sound(writer.path)]
    numbers = {file.number for file in usable}
    others = [file for file in store_files(catalog, LOCAL_FEATURES) if file.number not in numbers]
    if others or LOCAL_FEATURES not in config.keeps:
        writer.begin_changes()
        with catalog.transaction():
            register_file(catalog, None, others)
            catalog.set_config(replace(config, keeps=with_kind(config.keeps, LOCAL_FEATURES)))
    stored_ids = {image_id for file in usable for image_id in file.image_ids.tolist()}
    missing = [image for image in catalog.stored_images() if image.present and image.image_id not in stored_ids]
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        extracted: list[LocalFeatures | None] = []
        for features in features_of_all(Path(config.root), [image.facts for image in batch]):
            extracted.append(features)
            progress(start + len(extracted), len(missing))
        writer.add_features(np.array([image.image_id for image in batch], np.int64), extracted)
