"""Add images to the index and remove them, through the index's writer.

    requests --run--> one Writer applies the changes in the queue, one after another --> the index is reloaded

An added file goes into the sub-folder that is named after its landmark, where `glam index sync` expects it. Its name is
the digest of its content: the landmark is the only input of a client that becomes part of a path, and it is validated.
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
from glam.app.service.workers.batcher import Batcher, BatchRule
from glam.app.service.workers.search import sentence
from glam.datasets.collection import ImageFile
from glam.errors import GlamError
from glam.index.operations.image_files import read_facts
from glam.index.storage.checksums import atomic_write_bytes
from glam.index.storage.lock import InUseError
from glam.index.writer import ImageToAdd, Writer, open_writer

BATCH = 64

MAX_LANDMARK_LENGTH = 100
"""Characters."""

MAX_METADATA_BYTES = 10_000
"""Bytes of JSON."""

MAX_METADATA_KEYS = 50

Change = Callable[[Writer], int]
"""Changes an index atomically; returns the image_id that the change is about."""


@dataclass(frozen=True)
class NewFile:
    """An image to add.

    Attributes:
        content: bytes of the file.
        path: relative to the root of the index.
        landmark: landmark that the image shows; "" if unknown.
        metadata: further metadata, by name.
        width, height: pixels of the upright image.
        descriptor: (dim,) float32 of unit length.
    """

    content: bytes
    path: str
    landmark: str
    metadata: dict[str, Any]
    width: int
    height: int
    descriptor: NDArray[np.float32]


class WriteQueue:
    """Applies changes to one index in a thread; the changes in the queue share a writer.

    Args:
        path: folder of the index.
        on_change: called after changes, before their requests are answered.
        limits: size of the queue.
        metrics: counters.
    """

    def __init__(self, path: Path, on_change: Callable[[], object], limits: ServiceLimits, metrics: Metrics) -> None:
        self._path, self._on_change = path, on_change
        self._batcher: Batcher[Change, int] = Batcher(
            self._run,
            name="write",
            capacity=limits.waiting,
            rule=BatchRule(max_size=BATCH),
            report=metrics.batch("write"),
        )
        metrics.watch_queue("write", self._batcher)
        self.run = self._batcher.run
        self.close = self._batcher.close

    def _run(self, changes: Sequence[Change]) -> Sequence[int | Exception]:
        try:
            with open_writer(self._path) as writer:
                results = [_apply(change, writer) for change in changes]
        finally:
            self._on_change()
        return results


def _apply(change: Change, writer: Writer) -> int | Exception:
    try:
        return change(writer)
    except (GlamError, HTTPException) as error:
        return error


def addition(file: NewFile) -> Change:
    """A change that adds a file. If the index has the file, it keeps its image_id and gets the new metadata."""

    def change(writer: Writer) -> int:
        root = Path(writer.config.root).resolve()
        image_file = ImageFile(file.path, file.landmark, metadata=file.metadata)
        is_new = write_file(root, file.path, file.content)
        try:
            facts = read_facts(root, image_file)
            if facts is None:
                raise GlamError(f"{file.path} was written and cannot be read")
            existing = writer.catalog.ids_below(file.path)
            if existing:
                writer.begin_changes()
                with writer.catalog.transaction():
                    writer.catalog.update_files([(existing[0], facts)])
            else:
                writer.add([ImageToAdd(facts, file.width, file.height, file.descriptor)])
        except BaseException:
            if is_new:
                (root / file.path).unlink(missing_ok=True)
            raise
        return writer.catalog.ids_below(file.path)[0]

    return change


def removal(image_id: int, path: str) -> Change:
    """A change that removes an image from the index; its file stays.

    Raises (when applied):
        HTTPException: 404, the image has been removed already.
    """

    def change(writer: Writer) -> int:
        if image_id not in writer.catalog.ids_below(path):
            raise HTTPException(404, f"There is no image {image_id} in this index.")
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.remove([image_id])
        return image_id

    return change


def write_error(error: GlamError) -> HTTPException:
    """The answer to a change that failed: 409 while another writer is at work, otherwise 503."""
    if isinstance(error, InUseError):
        return HTTPException(409, sentence(error), headers={"Retry-After": "10"})
    return HTTPException(503, sentence(error), headers={"Retry-After": "60"})


def write_file(root: Path, path: str, content: bytes) -> bool:
    """Write a file atomically and durably; return whether it is new.

    Args:
        root: root of the index.
        path: relative to ``root``.
        content: bytes of the file.

    Raises:
        GlamError: the path leads out of the folder through a link, or the file cannot be written.
    """
    file = root / path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.parent.resolve().is_relative_to(root):
            raise GlamError(f"the folder of {path} is a link that leads out of the folder of the index")
        existed = file.exists()
        atomic_write_bytes(file, content)  # its temporary name has no image suffix, so that a `sync` skips it
    except OSError as error:
        raise GlamError(f"{path} cannot be written ({error.strerror or error})") from error
    return not existed


def normalize_landmark(landmark: str) -> str:
    """Normalize a landmark, and make sure that it can name a folder: a single name, not hidden.

    Raises:
        HTTPException: 422, it cannot name a folder.
    """
    landmark = unicodedata.normalize("NFC", landmark.strip())
    if len(landmark) > MAX_LANDMARK_LENGTH or len(landmark.encode("utf-8", "replace")) > 2 * MAX_LANDMARK_LENGTH:
        raise HTTPException(422, f"landmark: at most {MAX_LANDMARK_LENGTH} characters.")
    if landmark.startswith(".") or any(not _is_plain(character) for character in landmark):
        raise HTTPException(422, "landmark: it may not begin with a dot, or contain slashes or control characters.")
    return landmark


def parse_metadata(text: str) -> dict[str, str | int | float | bool | None]:
    """Parse metadata from the text of a JSON object.

    Raises:
        HTTPException: 422, it is not a JSON object, or has values other than strings, numbers, true, false and null.
    """
    if len(text.encode("utf-8", "replace")) > MAX_METADATA_BYTES:
        raise HTTPException(422, f"metadata: at most {MAX_METADATA_BYTES} bytes.")
    try:
        values = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "metadata: not a JSON object.") from error
    if not isinstance(values, dict) or len(values) > MAX_METADATA_KEYS:
        raise HTTPException(422, f"metadata: a JSON object of at most {MAX_METADATA_KEYS} keys is required.")
    for key, value in values.items():
        if not all(map(_is_plain, key)) or not key or '"' in key:
            raise HTTPException(422, "metadata: a key is empty, or contains quotes, slashes or control characters.")
        if not isinstance(value, str | int | float | None):
            raise HTTPException(422, f"metadata: {key} is not a string, a number, true, false or null.")
        if isinstance(value, float) and not math.isfinite(value):
            raise HTTPException(422, f"metadata: {key} is too large a number.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise HTTPException(422, f"metadata: {key} is too large a number.")
        if isinstance(value, str) and not _is_unicode(value):
            raise HTTPException(422, f"metadata: {key} is not valid Unicode.")
    return values


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_unicode(value: str) -> bool:
    return value.isascii() or value.encode("utf-8", "ignore").decode() == value


def _is_plain(character: str) -> bool:
    return character not in "/\\" and unicodedata.category(character)[0] != "C"
