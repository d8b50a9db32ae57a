"""Preparation of images for training: reduce and re-encode each one once, and write a manifest with the shapes.

Each result is an upright RGB JPEG without EXIF. Its JPEG comment records the settings and the size and modification
time of the source file. A later run skips an image if the existing file decodes and its comment matches.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

from PIL import Image

from glam.atomic_file import atomic_write
from glam.datasets.collection import Collection, is_utf8, printable_path
from glam.datasets.manifest import COLUMNS, write_rows
from glam.datasets.tables import header_of
from glam.errors import GlamError, ImageError
from glam.images import read_image
from glam.progress import Progress, no_progress

QUALITY = 92
"""JPEG quality, from 1 to 100 (arbitrary)."""
MANIFEST = "manifest.csv"
UNREADABLE = "unreadable.csv"
UNREADABLE_COLUMNS = ("path", "reason")

_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
_CHUNK = 32
"""Images that are sent to a process at a time (arbitrary)."""


@dataclass(frozen=True)
class PrepareReport:
    """Result of a run.

    Attributes:
        encoded: number of images that were encoded.
        present: number of images that an earlier run had already encoded.
        unreadable: the error of each image that could not be read.
    """

    encoded: int
    present: int
    unreadable: tuple[ImageError, ...]


@dataclass(frozen=True)
class _Outcome:
    """Result for one image: its (width, height) in pixels and whether it was encoded by this run, or else a fault."""

    shape: tuple[int, int] = (0, 0)
    encoded: bool = False
    fault: str = ""


def prepare(
    collection: Collection,
    out: Path,
    size: int,
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> PrepareReport:
    """Re-encodes a collection as JPEG files of at most ``size`` pixels on the longest side.

    Smaller images keep their size. Each image keeps its path in the collection, with ``.jpg`` appended to other
    suffixes. Two lists are written at the end: ``manifest.csv`` with the columns path, landmark, width, height, and
    those of the metadata, and ``unreadable.csv`` with the columns path and reason.

    Args:
        collection: the images.
        out: folder for the result. If an earlier run was interrupted, a second call resumes it.
        size: longest side in pixels.
        workers: number of processes; by default one per available core.
        progress: called with images done and total images.

    Returns:
        How many images were encoded, and which could not be read.

    Raises:
        GlamError: one of ``out`` and the folder of the collection is inside the other, or ``out`` holds other files;
            two images would get the same path; or disk space or memory runs out.
    """
    _check_apart(collection, out)
    unlistable = [image.path for image in collection.images if not is_utf8(image.path)]
    collection = collection.filter(lambda image: is_utf8(image.path))
    paths = _paths(collection)
    _check_folder(out, paths)
    try:
        (out / MANIFEST).unlink(missing_ok=True)
        outcomes = []
        task = partial(_prepare_one, size=size)
        jobs = [(str(collection.file(i)), str(out / path)) for i, path in enumerate(paths)]
        for done, outcome in enumerate(_run(task, jobs, workers or _cores()), start=1):
            outcomes.append(outcome)
            progress(done, len(paths))
        return _conclude(collection, out, paths, outcomes, unlistable)
    except OSError as error:
        raise GlamError(
            f"{error.filename or out}: {error.strerror or error}. Fix the cause and run the command again; it resumes."
        ) from error
    except BrokenProcessPool as error:
        raise GlamError(
            "A process that encodes images was killed, perhaps because memory ran out. "
            "Run the command again with fewer workers; it resumes."
        ) from error


def _conclude(
    collection: Collection, out: Path, paths: Sequence[str], outcomes: Sequence[_Outcome], unlistable: Sequence[str]
) -> PrepareReport:
    """Writes the manifest and the list of unreadable images, which begins with names that a manifest cannot list."""
    done = list(zip(paths, collection.images, outcomes, strict=True))
    faults = [ImageError(printable_path(path), "its name is not UTF-8") for path in unlistable]
    faults += [ImageError(image.path, o.fault) for _, image, o in done if o.fault]
    write_rows(out / UNREADABLE, UNREADABLE_COLUMNS, ((fault.source, fault.reason) for fault in faults))
    names = list(dict.fromkeys(name for image in collection.images for name in image.metadata))
    rows = (
        (path, image.landmark, *o.shape, *(image.metadata.get(name, "") for name in names))
        for path, image, o in done
        if not o.fault
    )
    write_rows(out / MANIFEST, (*COLUMNS, *names), rows)
    encoded = sum(outcome.encoded for outcome in outcomes)
    present = len(outcomes) - encoded - (len(faults) - len(unlistable))
    return PrepareReport(encoded, present, tuple(faults))


def _check_apart(collection: Collection, out: Path) -> None:
    """Makes sure that the results replace no image, and that a later run does not take them for images to prepare.

    An output inside the root is fine if the images come from a list, which names none of the results.

    Raises:
        GlamError: the results would replace images or join them.
    """
    root, target = collection.root.resolve(), out.resolve()
    folders = {(collection.root / image.path).parent for image in collection.images}
    if root.is_relative_to(target) or any(folder.resolve().is_relative_to(target) for folder in folders):
        raise GlamError(f"{out} holds the images, which would overwrite themselves. Choose another output folder.")
    scanned = collection.source is not None and collection.source.is_dir()
    if scanned and target.is_relative_to(root):
        raise GlamError(
            f"{out} is inside {collection.root}, so a later run would take its images for further ones. "
            "Choose a folder outside."
        )


def _paths(collection: Collection) -> list[str]:
    """The path of each result, relative to the output."""
    paths = [
        image.path if PurePosixPath(image.path).suffix.lower() in _JPEG_SUFFIXES else f"{image.path}.jpg"
        for image in collection.images
    ]
    if len(set(paths)) < len(paths):
        double = Counter(paths).most_common(1)[0][0]
        raise GlamError(f"{collection.root}: two images would both become {double}. Rename one of them.")
    return paths


def _check_folder(out: Path, paths: Sequence[str]) -> None:
    """Refuses a folder if files in it would be replaced that were not written by an earlier run.

    A complete run is recognized by its lists, and an interrupted one, which has no manifest yet, by its images.
    """
    foreign = None
    if (out / MANIFEST).exists():
        earlier = (out / UNREADABLE).is_file() and header_of(out / UNREADABLE) == list(UNREADABLE_COLUMNS)
        foreign = None if earlier else MANIFEST
    else:
        first = next((path for path in paths if (out / path).exists()), None)
        foreign = first if first is not None and not _is_prepared(out / first) else None
    if foreign is not None:
        raise GlamError(f"{out} holds other files, such as {foreign}. Choose a new or empty folder.")


def _is_prepared(file: Path) -> bool:
    """Whether an image is from an earlier run, of any size; an unreadable one counts as left by an interrupted run."""
    try:
        with Image.open(file) as image:
            return bytes(image.info.get("comment", b"")).startswith(b"glam ")
    except (OSError, ValueError, SyntaxError):
        return True


def _run(
    task: Callable[[tuple[str, str]], _Outcome], jobs: Sequence[tuple[str, str]], workers: int
) -> Iterator[_Outcome]:
    """Yields the outcomes in the order of the jobs. The first error or an interrupt ends all processes."""
    if workers == 1 or len(jobs) <= _CHUNK:
        yield from map(task, jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _ignore_interrupts)
    try:
        yield from pool.map(task, jobs, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ignore_interrupts() -> None:
    """Leaves Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare_one(job: tuple[str, str], size: int) -> _Outcome:
    """Encodes one image unless an earlier run has done so.

    Args:
        job: paths of the source and the target.
        size: longest side in pixels.
    """
    source, target = Path(job[0]), Path(job[1])
    try:
        stat = source.stat()
    except OSError as error:
        return _Outcome(fault=error.strerror or str(error))
    mark = f"glam {size} {QUALITY} {stat.st_size} {stat.st_mtime_ns}".encode()
    shape = _shape_if_done(target, mark)
    if shape is not None:
        return _Outcome(shape)
    try:
        image = read_image(source)
    except ImageError as error:
        return _Outcome(fault=error.reason)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    with atomic_write(target) as partial:
        image.save(partial, "JPEG", quality=QUALITY, comment=mark)
    return _Outcome(image.size, encoded=True)


def _shape_if_done(target: Path, mark: bytes) -> tuple[int, int] | None:
    """(width, height) of the target in pixels if it decodes and its JPEG comment is ``mark``, else None."""
    try:
        with Image.open(target) as image:
            if image.info.get("comment") != mark:
                return None
            image.load()
            return image.size
    except (OSError, ValueError, SyntaxError):
        return None
