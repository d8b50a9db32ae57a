"""Removing images from an index. Their descriptors keep their room until it is compacted.

glam index remove --> remove --> Writer, one transaction
"""

from collections.abc import Sequence
from pathlib import Path

from glam.errors import GlamError
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.writer import open_writer


def remove(path: str | Path, images: Sequence[str | Path], *, limits: IndexLimits = DEFAULT_LIMITS) -> int:
    """Removes images, all of them or none.

    Args:
        path: folder of the index.
        images: each a path as the index has it, or a file or folder on disk; a folder stands for all images below it.
        limits: sizes and times at which the index changes how it works.

    Returns:
        How many images were removed.

    Raises:
        GlamError: there is no index, another writer is at work, or one of ``images`` is not in the index.
    """
    with open_writer(Path(path), limits=limits) as writer:
        root = Path(writer.config.root)
        gone: set[int] = set()
        for image in images:
            found = [id for name in _names(str(image), root) for id in writer.catalog.at_or_below(name)]
            if not found:
                raise GlamError(f"{image} is not in {path}; nothing was removed")
            gone.update(found)
        writer.changes()
        with writer.catalog.transaction():
            writer.catalog.remove(gone)
    return len(gone)


def _names(image: str, root: Path) -> list[str]:
    """Paths in the index that ``image`` may stand for."""
    file = Path(image).parent.resolve() / Path(image).name
    return [image.rstrip("/"), *([file.relative_to(root).as_posix()] if file.is_relative_to(root) else [])]
