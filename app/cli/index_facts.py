"""Facts about an index in English, for `glam index info`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from glam.app.cli import terminal
from glam.index.storage.schema import CATALOG

if TYPE_CHECKING:
    from glam.index import IndexInfo


def facts_in_words(index: Path, found: "IndexInfo") -> dict[str, str]:
    """Facts about an index in English, by name."""
    changed = datetime.fromtimestamp((index / CATALOG).stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    removed = f" ({found.removed:,} more removed, not yet compacted)" if found.removed else ""
    closed = "cleanly" if found.clean else "not cleanly; the next change repairs it"
    if found.writer is not None:
        since = datetime.fromisoformat(found.writer.since).strftime("%Y-%m-%d %H:%M")
        closed = f"no; process {found.writer.pid} on {found.writer.host} has been writing since {since}"
    return {
        "images": f"{found.images:,}{removed}",
        "landmarks": f"{found.landmarks:,}",
        "folder": found.root,
        **({"read from": found.source} if found.source != found.root else {}),
        **({"excluded": ", ".join(found.exclude)} if found.exclude else {}),
        **({"landmarks from": found.landmark_from} if found.landmark_from else {}),
        "model": found.model,
        "fingerprint": found.fingerprint,
        "descriptor": terminal.count(found.dim, "dimension"),
        "image size": terminal.count(found.size, "pixel"),
        "scales": ", ".join(f"{scale:.4g}" if scale % 1 else f"{scale:.1f}" for scale in found.scales),
        "backend": found.backend,
        "structure": found.structure or ("exact" if found.backend == "faiss" else "in Milvus"),
        "precomputed": precomputed_in_words(found.precomputed),
        "size on disk": f"{terminal.file_size(found.bytes)} in {terminal.count(found.segments, 'segment')}",
        "last changed": changed,
        "closed": closed,
    }


def precomputed_in_words(names: tuple[str, ...]) -> str:
    """What is precomputed, in words."""
    return " and ".join(name.replace("_", " ").replace("knn", "kNN") for name in names) or "nothing"
