"""SfM-120k (Radenović et al., "Fine-tuning CNN image retrieval with no human annotation", PAMI 2019).

For ``train`` and ``val``, its pickle contains the name of each image (``cids``) and the number of its three-dimensional
model (``cluster``), which is used as the landmark. The image pairs in the pickle are not used.
"""

from pathlib import Path
from typing import Any

from glam.datasets.collection import Collection, ImageFile
from glam.errors import GlamError

PARTS = ("train", "val")


def read_sfm120k(table: dict[str, Any], origin: Path, part: str) -> Collection:
    """Lists the images of one part of SfM-120k.

    Args:
        table: content of ``retrieval-SfM-120k.pkl``.
        origin: path of the pickle. The images are in the folder ``ims`` next to it.
        part: ``train`` or ``val``.

    Raises:
        GlamError: the part is neither of these, or the table is malformed.
    """
    if part not in PARTS:
        raise GlamError(f"{origin} has two parts. Choose {origin}:train or {origin}:val.")
    try:
        cids, clusters = table[part]["cids"], table[part]["cluster"]
        rows = list(zip(cids, clusters, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise GlamError(
            f"{origin}: the part '{part}' has no lists 'cids' and 'cluster' of equal length. "
            "Download the published file again."
        ) from error
    landmarks = {cluster: str(cluster) for _, cluster in rows}
    return Collection(origin.parent / "ims", tuple(ImageFile(_path(cid, origin), landmarks[c]) for cid, c in rows))


def _path(cid: object, origin: Path) -> str:
    """The path of an image: three folders are taken from the end of its name, as in ``ef/cd/ab/...abcdef``."""
    if not isinstance(cid, str) or len(cid) < 6 or not cid.isalnum():
        raise GlamError(f"{origin}: {cid!r} is not the name of an image. Download the published file again.")
    return f"{cid[-2:]}/{cid[-4:-2]}/{cid[-6:-4]}/{cid}"
