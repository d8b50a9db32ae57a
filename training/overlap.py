"""Images that are in the training and in the validation images: a score on them is not one on unseen landmarks."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from glam.datasets.collection import Collection
from glam.datasets.download import digest


def shared_images(train: Collection, val: Collection) -> list[tuple[Path, Path]]:
    """Finds validation images whose files are equal to training images, whatever their names.

    Only files of equal size are read, so that a large training set costs one look at each file's size.

    Args:
        train: training images.
        val: validation images.

    Returns:
        The file of each such validation image, and that of a training image. Unreadable files are left out.
    """
    train_files, val_files = ([part.file(i) for i in range(len(part))] for part in (train, val))
    with ThreadPoolExecutor() as pool:
        train_sizes, val_sizes = (list(pool.map(_size, files)) for files in (train_files, val_files))
    by_size = defaultdict(list)
    wanted = {size for size in val_sizes if size > 0}
    for file, size in zip(train_files, train_sizes, strict=True):
        if size in wanted:
            by_size[size].append(file)
    train_by_digest = {_digest(file): file for files in by_size.values() for file in files}
    found = []
    for file, size in zip(val_files, val_sizes, strict=True):
        content = _digest(file) if size in by_size else ""
        if content and content in train_by_digest:
            found.append((file, train_by_digest[content]))
    return found


def _size(file: Path) -> int:
    """Size in bytes; -1 if the file cannot be looked at."""
    with suppress(OSError):
        return file.stat().st_size
    return -1


def _digest(file: Path) -> str:
    """Digest of the content; "" if the file cannot be read."""
    with suppress(OSError):
        return digest(file, "blake2b")
    return ""
