"""SfM-120k (Radenović et al., "Fine-tuning CNN image retrieval with no human annotation", PAMI 2019).

Its pickle holds, for ``train`` and ``val``, the name of each image (``cids``), the number of the three-dimensional
model it belongs to (``cluster``), and pairs that other training wants. A model is a landmark here.
"""

from pathlib import Path
from typing import Any

from glam.datasets.collection import Collection, ImageFile
from glam.errors import GlamError

PARTS = ("train", "val")


def read_sfm120k(table: dict[str, Any], origin: Path, part: str) -> Collection:
    """One part of SfM-120k. The images are below the folder ``ims`` beside the pickle.

    Args:
        table: what ``retrieval-SfM-120k.pkl`` holds.
        origin: the pickle.
        part: ``train`` or ``val``.

    Raises:
        GlamError: the part is neither, or the table is not as it should be.
    """
    if part not in PARTS:
        raise GlamError(f"{origin}: it has two parts; name one: {origin}:train or {origin}:val")
    try:
        cids, clusters = table[part]["cids"], table[part]["cluster"]
        rows = list(zip(cids, clusters, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise GlamError(f"{origin}: no lists 'cids' and 'cluster' of one length in its part '{part}'") from error
    landmarks = {cluster: str(cluster) for _, cluster in rows}
    return Collection(origin.parent / "ims", tuple(ImageFile(_path(cid, origin), landmarks[c]) for cid, c in rows))


def _path(cid: object, origin: Path) -> str:
    """Three folders from the end of the name: ``...abcdef`` is ``ef/cd/ab/...abcdef``."""
    if not isinstance(cid, str) or len(cid) < 6 or not cid.isalnum():
        raise GlamError(f"{origin}: {cid!r} is not the name of an image")
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"
