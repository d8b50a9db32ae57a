"""Folders that people sort photos into, such as ``2019`` or ``edited``: their names are not those of landmarks."""

import re

from glam.datasets.collection import Collection
from glam.datasets.scan import landmark_of

WORKFLOW_NAMES = frozenset({
    *("edited", "edits", "edit", "original", "originals", "raw", "jpg", "jpeg", "export", "exports", "processed"),
    *("unsorted", "sorted", "to sort", "todo", "to do", "done", "selected", "picks", "rejected", "rejects"),
    *("new folder", "untitled folder", "untitled", "misc", "miscellaneous", "other", "others", "temp", "tmp"),
    *("camera", "camera roll", "camera uploads", "dcim", "screenshots", "downloads", "import", "imports", "imported"),
    *("backup", "backups", "duplicates", "scans", "various"),
})  # fmt: skip
"""Lower-case names of folders that systems, cameras, and programs make, or that name a step of work."""

_COPY = r"([ _-]*\(?\d{1,3}\)?)?"
"""What is added to the name of a further folder, as in ``New folder (2)``."""
_MONTH = (
    r"(0?[1-9]|1[0-2]|jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?"
    r"|nov(ember)?|dec(ember)?)"
)
_YEAR = r"(19|20)\d\d"
_DAY = r"(0?[1-9]|[12]\d|3[01])"
_WORKFLOW = re.compile(
    rf"({'|'.join(map(re.escape, sorted(WORKFLOW_NAMES)))}){_COPY}"
    rf"|{_YEAR}([ ._-]*{_MONTH}([ ._-]*{_DAY})?)?"  # 2019, 2019-07, 201907, 2019 July, 2019-07-14
    rf"|({_DAY}[ ._-]+)?{_MONTH}[ ._-]+{_YEAR}"  # 07.2019, July 2019, 14.07.2019
    r"|[1-9]\d\d(?=.*[a-z])[a-z0-9_]{5}"  # folders of cameras, by the DCF standard: 100apple, 101msdcf
)


def workflow_folders(collection: Collection) -> tuple[str, ...]:
    """The names of folders for sorting that name landmarks of a collection, sorted.

    A landmark that a list names counts only if it is the folder of its image: numbers are names of landmarks in public
    data sets.

    Args:
        collection: the images.

    Returns:
        The names, such as ``("2019", "edited")``; of a landmark ``2019/Petra``, the part ``2019``.
    """
    found = {landmark: names for landmark in collection.landmarks if (names := _workflow_parts(landmark))}
    named_by_folder = {
        image.landmark
        for image in collection.images
        if image.landmark in found
        and image.landmark in (landmark_of(image.path, "folder"), landmark_of(image.path, "parent"))
    }
    return tuple(sorted({name for landmark in named_by_folder for name in found[landmark]}))


def _workflow_parts(landmark: str) -> list[str]:
    return [part for part in landmark.split("/") if _WORKFLOW.fullmatch(part.lower())]
