"""Adding images to the index and removing them, through the index's own writer.

    requests --submit--> changes that wait are carried out by one Writer, one after another --> the index is opened anew

An added file goes into the sub-folder of the root that is named after its landmark, as `glam index sync` does. Its
name is the digest of its content: of what a client sends, only the landmark becomes part of a path, and it is checked.
"""

import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher
from glam.app.service.workers.search import sentence
from glam.datasets.collection import ImageFile
from glam.errors import GlamError
from glam.index.operations.image_files import read_facts
from glam.index.storage.checksums import atomic_write_bytes
from glam.index.storage.lock import InUseError
from glam.index.writer import DescribedFile, Writer, open_writer

BATCH = 64

LONGEST_LANDMARK = 100
"""Characters."""

LONGEST_METADATA = 10_000
"""Bytes of JSON."""

MOST_KEYS = 50

Change = Callable[[Writer], int]
"""Changes an index, wholly or not at all; returns the id of the image that it was about."""


@dataclass(frozen=True)
class NewFile:
    """An image to be added.

    Attributes:
        content: bytes of its file.
        path: relative to the root of the index.
        landmark: what it shows, "" where that is not known.
        metadata: what else is known of it.
        width, height: in pixels, upright.
        descriptor: (dim,).
    """

    content: bytes
    path: str
    landmark: str
    metadata: dict[str, Any]
    width: int
    height: int
    descriptor: NDArray[np.float32]


class WriteQueue:
    """Carries out changes of one index in a thread; those that wait meanwhile share a writer.

    Args:
        path: folder of the index.
        changed: called after changes, before who asked for them is answered.
        limits: how many may wait.
        metrics: counts.
    """

    def __init__(self, path: Path, changed: Callable[[], object], limits: ServiceLimits, metrics: Metrics) -> None:
        self._path, self._changed = path, changed
        self._batcher: Batcher[Change, int] = Batcher(
            self._run, name="write", room=limits.waiting, most=BATCH, report=metrics.batch("write")
        )
        metrics.watch_queue("write", self._batcher)
        self.submit = self._batcher.submit
        self.close = self._batcher.close

    def _run(self, changes: Sequence[Change]) -> Sequence[int | Exception]:
        try:
            with open_writer(self._path) as writer:
                results = [_done(change, writer) for change in changes]
        finally:
            self._changed()
        return results


def _done(change: Change, writer: Writer) -> int | Exception:
    try:
        return change(writer)
    except (GlamError, HTTPException) as error:
        return error


def adding(file: NewFile) -> Change:
    """Writes a file and adds it. A file that is in the index keeps its id, and gets the new landmark and metadata."""

    def change(writer: Writer) -> int:
        root = Path(writer.config.root).resolve()
        photo = ImageFile(file.path, file.landmark, metadata=file.metadata)
        is_new = put_file(root, file.path, file.content)
        try:
            facts = read_facts(root, photo)
            if facts is None:
                raise GlamError(f"{file.path} was written and cannot be read")
            known = writer.catalog.ids_below(file.path)
            if known:
                writer.begin_changes()
                with writer.catalog.transaction():
                    writer.catalog.update_files([(known[0], facts)])
            else:
                writer.add([DescribedFile(facts, file.width, file.height, file.descriptor)])
        except BaseException:
            if is_new:
                (root / file.path).unlink(missing_ok=True)
            raise
        return writer.catalog.ids_below(file.path)[0]

    return change


def removing(image: int, path: str) -> Change:
    """Removes an image from the index; its file stays.

    Raises (when carried out):
        HTTPException: 404, it was removed meanwhile.
    """

    def change(writer: Writer) -> int:
        if image not in writer.catalog.ids_below(path):
            raise HTTPException(404, f"There is no image {image} in this index.")
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.remove([image])
        return image

    return change


def refusal(error: GlamError) -> HTTPException:
    """The answer to a change that could not be made: 409 while another writer is at work, else 503."""
    if isinstance(error, InUseError):
        return HTTPException(409, sentence(error), headers={"Retry-After": "10"})
    return HTTPException(503, sentence(error), headers={"Retry-After": "60"})


def put_file(root: Path, path: str, content: bytes) -> bool:
    """Writes a file wholly or not at all, and durably; returns whether it was not there before.

    Args:
        root: folder of the images.
        path: relative to it.
        content: of the file.

    Raises:
        GlamError: the path leads out of the folder through a link, or the file cannot be written.
    """
    file = root / path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.parent.resolve().is_relative_to(root):
            raise GlamError(f"the folder of {path} is a link that leads out of the folder of the index")
        was_there = file.exists()
        atomic_write_bytes(file, content)  # under a name without an image's suffix at first, which a `sync` passes over
    except OSError as error:
        raise GlamError(f"{path} cannot be written ({error.strerror or error})") from error
    return not was_there


def checked_landmark(landmark: str) -> str:
    """A landmark that can name a folder: one name, not a path, not hidden.

    Raises:
        HTTPException: 422, it cannot.
    """
    landmark = unicodedata.normalize("NFC", landmark.strip())
    if len(landmark) > LONGEST_LANDMARK or len(landmark.encode("utf-8", "replace")) > 2 * LONGEST_LANDMARK:
        raise HTTPException(422, f"landmark: at most {LONGEST_LANDMARK} characters.")
    if landmark.startswith(".") or any(not _is_plain(character) for character in landmark):
        raise HTTPException(
            422, "landmark: it may not begin with a dot, nor hold slashes or characters that are not seen."
        )
    return landmark


def checked_metadata(text: str) -> dict[str, str | int | float | bool | None]:
    """Metadata from the text of a JSON object.

    Raises:
        HTTPException: 422, it is none, or holds more than texts, numbers, true, false and null.
    """
    if len(text.encode("utf-8", "replace")) > LONGEST_METADATA:
        raise HTTPException(422, f"metadata: at most {LONGEST_METADATA} bytes.")
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "metadata: not a JSON object.") from error
    if not isinstance(values, dict) or len(values) > MOST_KEYS:
        raise HTTPException(422, f"metadata: a JSON object of at most {MOST_KEYS} keys is wanted.")
    for key, value in values.items():
        if not all(map(_is_plain, key)) or not key or '"' in key:
            raise HTTPException(422, "metadata: a key is empty, or holds quotes, slashes or characters not seen.")
        if not isinstance(value, str | int | float | None):
            raise HTTPException(422, f"metadata: {key} is neither text nor number, true, false or null.")
        if isinstance(value, float) and not math.isfinite(value):
            raise HTTPException(422, f"metadata: {key} is too large a number.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise HTTPException(422, f"metadata: {key} is too large a number.")
        if isinstance(value, str) and not _is_text(value):
            raise HTTPException(422, f"metadata: {key} is not text of Unicode.")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_text(value: str) -> bool:
    return value.isascii() or value.encode("utf-8", "ignore").decode() == value


def _is_plain(character: str) -> bool:
    return character not in "/\\" and unicodedata.category(character)[0] != "C"
