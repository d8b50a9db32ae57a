"""`info`: summarizes an index from its catalog, without reading descriptors or loading a model.

glam index info --> info --> Catalog, lock, checksums.json, search/list.json
"""

from dataclasses import dataclass
from pathlib import Path

from glam.datasets.collection import NOTHING_SKIPPED, Skipped
from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.rerank_store.files import public_names
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.lock import Owner, owner
from glam.index.storage.migrations import open_catalog


@dataclass(frozen=True)
class IndexInfo:
    """The result of `info`.

    Attributes:
        images: number of images.
        removed: number of removed images whose descriptors still take up disk space.
        landmarks: number of landmarks.
        model: name or path that the model was loaded by.
        fingerprint: fingerprint of that model.
        dim: length of a descriptor.
        size: longest side in pixels at which images were described.
        scales: scales at which images were described.
        root: folder that the paths of the images are relative to.
        structure: kind of the saved search structure; "" if none is saved, as in a small index.
        precomputed: data precomputed for re-ranking: ``local_features``, ``knn_graph``, both or neither.
        backend: "faiss", or the name and address of the Milvus collection.
        segments: number of segments.
        bytes: total size of the files of the index, in bytes.
        clean: whether the last writer finished, rather than being killed.
        writer: the writer that is active now; None if there is none.
        unreadable: reason for each file that could not be read, by its path.
        source: folder or list that the images come from; the root if that is not known.
        exclude: patterns of the paths that are left out.
        landmark_from: what names the landmark of an image; "" if that is not known.
        skipped: what the last complete scan passed over.
    """

    images: int
    removed: int
    landmarks: int
    model: str
    fingerprint: str
    dim: int
    size: int
    scales: tuple[float, ...]
    root: str
    structure: str
    precomputed: tuple[str, ...]
    backend: str
    segments: int
    bytes: int
    clean: bool
    writer: Owner | None
    unreadable: dict[str, str]
    source: str
    exclude: tuple[str, ...]
    landmark_from: str
    skipped: Skipped


def info(path: str | Path) -> IndexInfo:
    """Summarizes an index.

    Args:
        path: folder of the index.

    Returns:
        The model, settings, numbers of images and files, and state of the index.

    Raises:
        GlamError: there is no index, it is damaged, or it was written by a newer version.
    """
    index = Path(path)
    catalog = open_catalog(index)
    try:
        with catalog.snapshot():
            config = catalog.config
            source = config.source
            return IndexInfo(
                images=len(catalog),
                removed=catalog.removed_count(),
                landmarks=catalog.landmark_count(),
                model=config.model,
                fingerprint=config.fingerprint,
                dim=config.dim,
                size=config.size,
                scales=config.scales,
                root=config.root,
                structure=_saved_kind(index),
                precomputed=public_names(config.keeps),
                backend=str(config.milvus or "faiss"),
                segments=len(catalog.segments()),
                bytes=sum(file.stat().st_size for file in index.rglob("*") if file.is_file()),
                clean=(index / CHECKSUMS).exists(),
                writer=owner(index),
                unreadable=dict(catalog.unreadable()),
                source=config.root if source is None else source.location(config.root),
                exclude=() if source is None else source.exclude,
                landmark_from="" if source is None else source.landmark_from,
                skipped=NOTHING_SKIPPED if source is None else source.skipped,
            )
    finally:
        catalog.close()


def _saved_kind(index: Path) -> str:
    try:
        found = ann_cache.read_list(index)
    except GlamError:
        return ""
    return found.kind if found else ""
