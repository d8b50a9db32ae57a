"""`relocate`: records the new place of the images of an index, after comparing a sample of files with their checksums.

relocate, sync --stored images--> compare_sample --read_facts_or_raise--> files in the new folder
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from glam.datasets.collection import ImageFile
from glam.errors import GlamError, is_refusal, system_reason
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.operations.image_files import read_facts_or_raise
from glam.index.storage.records import StoredImage
from glam.index.writer import open_writer

SAMPLE = 32
"""Files compared by default. If half of the files were others, 32 would match with a probability of 2e-10."""

SUFFICIENT = 0.5
"""Share of the sample that has to match. Images may have been deleted or edited since the last sync; arbitrary."""


@dataclass(frozen=True)
class RelocateReport:
    """The result of `relocate`.

    Attributes:
        root: the new root of the index.
        former: the root before.
        checked: number of files that were looked for.
        matching: number of them with the content that was indexed.
        missing: number of them that do not exist in the new folder.
        inaccessible: number of them that the system refused to read.
    """

    root: str
    former: str
    checked: int
    matching: int
    missing: int
    inaccessible: int


class MatchCounts(NamedTuple):
    """The result of `compare_sample`: numbers of files, as in `RelocateReport`."""

    checked: int
    matching: int
    missing: int
    inaccessible: int

    @property
    def is_sufficient(self) -> bool:
        """Whether enough files match to say that the folder holds the images of the index."""
        return self.checked > 0 and self.matching >= SUFFICIENT * self.checked


def relocate(
    path: str | Path, folder: str | Path, *, sample: int = SAMPLE, limits: IndexLimits = DEFAULT_LIMITS
) -> RelocateReport:
    """Records that the images of an index are in another folder: a new disk, mount point, machine, or container path.

    No image is described again. Files that were added, changed, or deleted on the way are left to `glam.index.sync`.

    Args:
        path: folder of the index.
        folder: folder that the images are in now, with the same paths below it.
        sample: number of files, spread evenly over the index, whose contents are compared; at least 1.
        limits: limits of the index.

    Raises:
        GlamError: there is no index or no such folder, the index has no images, fewer than half of the compared files
            have the content that was indexed, or another writer is active.
    """
    try:
        is_folder = Path(folder).is_dir()
    except OSError as error:
        raise GlamError(
            f"{folder} cannot be opened: {system_reason(error)}. Check the path and its permissions."
        ) from error
    if not is_folder:
        raise GlamError(f"{folder}: no such folder. Check the path.")
    root = Path(folder).resolve()
    with open_writer(Path(path), limits=limits) as writer:
        former = writer.config.root
        stored = [image for image in writer.catalog.stored_images() if image.present]
        if not stored:
            raise GlamError(f"{path} has no images to compare. Build it from {folder} instead.")
        found = compare_sample(stored, root, sample)
        if not found.is_sufficient:
            differ = found.checked - found.matching - found.missing - found.inaccessible
            raise GlamError(
                f"{root} does not hold the images of {path}: of {found.checked} compared files, {found.missing} are "
                f"missing, {differ} differ, and {found.inaccessible} cannot be read. "
                f"Give the folder that has the same files below it as {former}."
            )
        writer.change_config(root=str(root))
    return RelocateReport(str(root), former, *found)


def has_moved_to(stored: Sequence[StoredImage], root: Path) -> bool:
    """Whether a folder holds the images of an index, by a sample of their files.

    Args:
        stored: images in the catalog.
        root: the folder.
    """
    return compare_sample([image for image in stored if image.present], root, SAMPLE).is_sufficient


def compare_sample(images: Sequence[StoredImage], root: Path, sample: int) -> MatchCounts:
    """Compares files in a folder with the contents that were indexed.

    Args:
        images: images of an index.
        root: folder to look in.
        sample: most images to compare, spread evenly.
    """
    checked = min(sample, len(images))
    matching = missing = inaccessible = 0
    for i in range(checked):
        image = images[i * len(images) // checked]
        try:
            facts = read_facts_or_raise(root, ImageFile(image.facts.path))
        except OSError as error:
            refused = is_refusal(error)
            missing, inaccessible = missing + (not refused), inaccessible + refused
            continue
        if image.facts.hash:
            matching += facts.hash == image.facts.hash
        else:  # from schema version 1, which stored no hashes: unchanged if the file is older than its descriptor
            matching += facts.modified <= image.facts.modified
    return MatchCounts(checked, matching, missing, inaccessible)
