"""What is in an index, told from its catalogue alone: no descriptor is read and no model is loaded.

glam index info --> summary --> Catalogue, lock, checksums.json, search/list.json
"""

from dataclasses import dataclass
from pathlib import Path

from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.lock import Owner, owner
from glam.index.storage.migrations import open_catalogue


@dataclass(frozen=True)
class Summary:
    """An index in figures.

    Attributes:
        images: that are present.
        removed: images whose descriptors still take up room.
        landmarks: that are named.
        model, fingerprint, dim, size, scales, root: as in `glam.index.Index`.
        structure: the saved search structure; "" where none is saved, as for a small index.
        keeps: what is kept for reranking.
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
    keeps: tuple[str, ...]
    backend: str
    segments: int
    bytes: int
    clean: bool
    writer: Owner | None
    unreadable: dict[str, str]


def summary(path: str | Path) -> Summary:
    """What is in the index in the folder ``path``.

    Raises:
        GlamError: there is none, or it is damaged or of a newer version.
    """
    index = Path(path)
    catalogue = open_catalogue(index)
    try:
        with catalogue.snapshot():
            about = catalogue.about
            return Summary(
                images=len(catalogue),
                removed=catalogue.removed_count(),
                landmarks=catalogue.landmark_count(),
                model=about.model,
                fingerprint=about.fingerprint,
                dim=about.dim,
                size=about.size,
                scales=about.scales,
                root=about.root,
                structure=_saved_kind(index),
                keeps=about.keeps,
                backend=str(about.milvus or "faiss"),
                segments=len(catalogue.segments()),
                bytes=sum(file.stat().st_size for file in index.rglob("*") if file.is_file()),
                clean=(index / CHECKSUMS).exists(),
                writer=owner(index),
                unreadable=dict(catalogue.unreadable()),
            )
    finally:
        catalogue.close()


def _saved_kind(index: Path) -> str:
    try:
        found = ann_cache.read_list(index)
    except GlamError:
        return ""
    return found.kind if found else ""
