"""What is in an index, told from its catalog alone: no descriptor is read and no model is loaded.

glam index info --> info --> Catalog, lock, checksums.json, search/list.json
"""

from dataclasses import dataclass
from pathlib import Path

from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.rerank_store.files import public_names
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.lock import Owner, owner
from glam.index.storage.migrations import open_catalog


@dataclass(frozen=True)
class IndexInfo:
    """An index in figures.

    Attributes:
        images: that are present.
        removed: images whose descriptors still take up room.
        landmarks: that are named.
        model, fingerprint, dim, size, scales, root: as in `glam.index.Index`.
        structure: the saved search structure; "" where none is saved, as for a small index.
        precomputed: what is precomputed for re-ranking: ``local_features``, ``knn_graph``, both or neither.
        backend: "faiss", or the collection in Milvus that is searched.
        segments: files of descriptors.
        bytes: of all files of the index.
        clean: whether its last writer came to its end.
        writer: who writes to it now; None where nobody does.
        unreadable: reason for each file that could not be read, by path.
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


def info(path: str | Path) -> IndexInfo:
    """What is in the index in the folder ``path``.

    Raises:
        GlamError: there is none, or it is damaged or of a newer version.
    """
    index = Path(path)
    catalog = open_catalog(index)
    try:
        with catalog.snapshot():
            config = catalog.config
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
            )
    finally:
        catalog.close()


def _saved_kind(index: Path) -> str:
    try:
        found = ann_cache.read_list(index)
    except GlamError:
        return ""
    return found.kind if found else ""
