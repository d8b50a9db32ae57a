"""Readers of image collections.

A source is a folder or a file that lists images. The format of a file is detected from its content. If a folder
contains one of the known lists (`LISTS`), the list is read; otherwise the folder is scanned, and each sub-folder is a
landmark. `docs/datasets.md` describes the formats.
"""

from dataclasses import replace
from pathlib import Path

from glam.datasets import gldv2, sfm120k
from glam.datasets.collection import Collection, ScanOptions, Skipped, printable_path
from glam.datasets.gldv2 import read_gldv2
from glam.datasets.manifest import read_manifest
from glam.datasets.pickles import read_plain_pickle
from glam.datasets.revisitop import read_list, read_revisited
from glam.datasets.scan import landmark_of, scan_folder
from glam.datasets.scan_rules import EXCLUDED, LEADS_OUT, ScanRules
from glam.datasets.sfm120k import read_sfm120k
from glam.datasets.tables import header_of
from glam.errors import GlamError, system_reason
from glam.images import IMAGE_SUFFIXES

LISTS = (
    "manifest.csv",
    "train_clean.csv",
    "train.csv",
    "retrieval-SfM-120k.pkl",
    "gnd_roxford5k.pkl",
    "gnd_rparis6k.pkl",
    "revisitop1m.txt",
)
"""Names of the lists that are looked for in a folder; the first one found is read."""


def read_collection(source: Path | str, options: ScanOptions = ScanOptions()) -> Collection:  # noqa: B008
    """Reads the list of images of a source. No image file is opened.

    Args:
        source: a folder, or a file that lists images. For SfM-120k, append ``:train`` or ``:val``.
        options: what to leave out, which links to follow, and what names the landmarks.

    Raises:
        GlamError: the source does not exist, has an unknown format, is damaged, or contains no images.
    """
    try:
        collection = _read(source, options)
    except OSError as error:
        raise _cannot_be_opened(source, error) from error
    if not len(collection):
        raise _no_images(collection, source)
    return replace(collection, source=Path(source), options=options)


def _read(source: Path | str, options: ScanOptions) -> Collection:
    path, part = _split(source)
    listed = _find_list(path)
    if part and listed.suffix.lower() != ".pkl":
        raise GlamError(f"{path}: only SfM-120k has parts. Remove ':{part}'.")
    return read_folder(path, options) if listed.is_dir() else _with_options(_read_list_file(listed, part), options)


def is_list(source: Path | str) -> bool:
    """Whether a source is a list of images, or a folder that has one, rather than a folder to scan.

    Raises:
        GlamError: the system refuses to say.
    """
    try:
        return not _find_list(_split(source)[0]).is_dir()
    except OSError as error:
        raise _cannot_be_opened(source, error) from error


def read_folder(root: Path, options: ScanOptions = ScanOptions()) -> Collection:  # noqa: B008
    """Lists all image files in a folder and its sub-folders, see `glam.datasets.scan.scan_folder`.

    Args:
        root: the folder.
        options: what to leave out, which links to follow, and what names the landmarks; by default the path of the
            sub-folder.

    Raises:
        GlamError: the folder does not exist, or the manifest is to name the landmarks.
    """
    if not root.is_dir():
        raise GlamError(f"{root}: no such folder. Check the path.")
    if options.landmark_from == "manifest":
        raise GlamError(f"{root} has no manifest that names landmarks. Use --landmark-from folder, parent, or none.")
    images, skipped = scan_folder(root, options)
    return Collection(root, images, skipped, root, options)


def _with_options(collection: Collection, options: ScanOptions) -> Collection:
    """The images of a list, with the landmarks that the options ask for, without those to pass over."""
    rules = ScanRules(collection.root, options, is_list=True)
    reasons = {image.path: reason for image in collection.images if (reason := rules.reason(image.path))}
    images = tuple(image for image in collection.images if image.path not in reasons)
    excluded = sum(reasons.get(image.path) == EXCLUDED for image in collection.images)
    links = tuple((printable_path(path), reason) for path, reason in sorted(reasons.items()) if reason == LEADS_OUT)
    names = options.landmark_from
    if names is not None and names != "manifest":
        images = tuple(image._replace(landmark=landmark_of(image.path, names)) for image in images)
    return replace(collection, images=images, skipped=Skipped(excluded=excluded, links=links), is_list=True)


def _cannot_be_opened(source: Path | str, error: OSError) -> GlamError:
    """The error of a source that the system refuses to open."""
    return GlamError(f"{source} cannot be opened: {system_reason(error)}. Check the path and its permissions.")


def _no_images(collection: Collection, source: Path | str) -> GlamError:
    """The error of a source without images, with the most likely reason."""
    skipped = collection.skipped
    if skipped.unlisted:
        folder, reason = skipped.unlisted[0]
        path = collection.root / folder
        return GlamError(f"{path} could not be listed: {reason}. Make the folder readable, and try again.")
    summary = skipped.summary()
    note = f" (skipped: {summary})" if summary else ""
    suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
    return GlamError(
        f"{source} contains no images{note}. Choose a folder or a list of files of these types: {suffixes}."
    )


def _find_list(path: Path) -> Path:
    """The list in a folder; the path itself if there is none."""
    return next((path / name for name in LISTS if (path / name).is_file()), path)


def _split(source: Path | str) -> tuple[Path, str]:
    """Splits a source into its path and its part ("train" or "val"; "" if none is given)."""
    path, _, part = str(source).rpartition(":")
    return (Path(path), part) if part in sfm120k.PARTS and not Path(source).exists() else (Path(source), "")


def _read_list_file(file: Path, part: str) -> Collection:
    if not file.is_file():
        what = "neither a file nor a folder" if file.exists() else "no such file or folder"
        raise GlamError(f"{file}: {what}. Check the path.")
    kind = file.suffix.lower()
    if kind == ".pkl":
        return _read_pickle(file, part)
    if kind == ".txt":
        return read_list(file)
    if header_of(file) in (gldv2.CLEAN_HEADER, gldv2.FULL_HEADER):
        return read_gldv2(file)
    return read_manifest(file)


def _read_pickle(file: Path, part: str) -> Collection:
    table = read_plain_pickle(file)
    if isinstance(table, dict) and set(sfm120k.PARTS) <= table.keys():
        return read_sfm120k(table, file, part)
    if isinstance(table, dict) and "imlist" in table and not part:
        return read_revisited(table, file)
    raise GlamError(
        f"{file} is neither SfM-120k nor the ground truth of Revisited Oxford or Paris. "
        "Choose a folder of images or a CSV manifest."
    )
