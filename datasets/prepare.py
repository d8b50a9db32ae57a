"""Re-encoding images once at the size that training reads them at, with a manifest of their shapes.

Each becomes an upright RGB JPEG without metadata. In its comment it carries what it was made from (size and time of the
source file, and the settings), so that a second run knows by the file itself whether it is done: it is decoded, and its
comment compared.
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
from glam.datasets.collection import Collection
from glam.datasets.manifest import COLUMNS, write_rows
from glam.datasets.tables import header_of
from glam.errors import GlamError, ImageError
from glam.images import read_image
from glam.progress import Progress, no_progress

QUALITY = 92
"""JPEG quality, of 100."""
MANIFEST = "manifest.csv"
UNREADABLE = "unreadable.csv"

_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
_CHUNK = 32
"""Images that a process takes at a time."""


@dataclass(frozen=True)
class PrepareReport:
    """What a run came to.

    Attributes:
        encoded: number of images that were encoded.
        present: number of images that were already there.
        unreadable: the others, with the reason of each.
    """

    encoded: int
    present: int
    unreadable: tuple[ImageError, ...]


@dataclass(frozen=True)
class _Outcome:
    """One image: its shape (width, height), and whether it was encoded just now; or why it cannot be."""

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
    """Re-encodes a collection to at most ``size`` pixels on the longest side; none is enlarged.

    ``out`` gets the images under the paths they have in the collection (with ``.jpg`` after another suffix), and
    last of all ``manifest.csv`` with the columns path, landmark, width and height, and ``unreadable.csv`` with path and
    reason.

    Args:
        collection: the images.
        out: folder for the result; run again, it goes on where it stopped.
        size: longest side in pixels.
        workers: processes; as many as this one may use cores by default.
        progress: called with images done and images in all.

    Raises:
        GlamError: ``out`` is the collection's own folder or holds files that are not ours, two images would get one
            path, or the disk or the memory does not suffice.
    """
    paths = _paths(collection, out)
    _check_folder(out, paths)
    try:
        (out / MANIFEST).unlink(missing_ok=True)
        outcomes = []
        task = partial(_prepare_one, size=size)
        jobs = [(str(collection.file(i)), str(out / path)) for i, path in enumerate(paths)]
        for done, outcome in enumerate(_run(task, jobs, workers or _cores()), start=1):
            outcomes.append(outcome)
            progress(done, len(paths))
        return _conclude(collection, out, paths, outcomes)
    except OSError as error:
        raise GlamError(f"{error.filename or out}: {error.strerror or error}") from error
    except BrokenProcessPool as error:
        raise GlamError("a process that encodes images was killed, perhaps for want of memory; run again") from error


def _conclude(collection: Collection, out: Path, paths: Sequence[str], outcomes: Sequence[_Outcome]) -> PrepareReport:
    """Writes the two lists."""
    done = list(zip(paths, collection.images, outcomes, strict=True))
    faults = [ImageError(image.path, o.fault) for _, image, o in done if o.fault]
    write_rows(out / UNREADABLE, ("path", "reason"), ((fault.source, fault.reason) for fault in faults))
    rows = ((path, image.landmark, *o.shape) for path, image, o in done if not o.fault)
    write_rows(out / MANIFEST, COLUMNS, rows)
    encoded = sum(outcome.encoded for outcome in outcomes)
    return PrepareReport(encoded, len(outcomes) - encoded - len(faults), tuple(faults))


def _paths(collection: Collection, out: Path) -> list[str]:
    """Where each image goes, relative to ``out``."""
    if out.resolve() == collection.root.resolve():
        raise GlamError(f"{out}: the photographs would overwrite themselves; name another folder")
    paths = [
        image.path if PurePosixPath(image.path).suffix.lower() in _JPEG_SUFFIXES else f"{image.path}.jpg"
        for image in collection.images
    ]
    if len(set(paths)) < len(paths):
        double = Counter(paths).most_common(1)[0][0]
        raise GlamError(f"{collection.root}: two photographs would both become {double}")
    return paths


def _check_folder(out: Path, paths: Sequence[str]) -> None:
    """Refuses a folder whose files would be replaced, but were not written by an earlier run.

    Runs write the manifest last of all; of one that was interrupted, the images tell.
    """
    foreign = None
    if (out / MANIFEST).exists():
        earlier = (out / UNREADABLE).is_file() and header_of(out / UNREADABLE) == ["path", "reason"]
        foreign = None if earlier else MANIFEST
    else:
        first = next((path for path in paths if (out / path).exists()), None)
        foreign = first if first is not None and not _is_prepared(out / first) else None
    if foreign is not None:
        raise GlamError(f"{out} holds other files, such as {foreign}; name a new or empty folder")


def _is_prepared(file: Path) -> bool:
    """Whether an image is from an earlier run, at whatever size; one that cannot be read counts as broken off."""
    try:
        with Image.open(file) as image:
            return bytes(image.info.get("comment", b"")).startswith(b"glam ")
    except (OSError, ValueError, SyntaxError):
        return True


def _run(
    task: Callable[[tuple[str, str]], _Outcome], jobs: Sequence[tuple[str, str]], workers: int
) -> Iterator[_Outcome]:
    """The outcomes in the order of the jobs; the first error, or an interrupt, ends all processes."""
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
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare_one(job: tuple[str, str], size: int) -> _Outcome:
    """Encodes one image unless that has been done.

    Args:
        job: path of the source and of the target.
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
    """(width, height) of the target if it is whole and carries the mark."""
    try:
        with Image.open(target) as image:
            if image.info.get("comment") != mark:
                return None
            image.load()
            return image.size
    except (OSError, ValueError, SyntaxError):
        return None
