"""Addition and removal of images.

    requests --queue--> one Writer applies the changes one by one --> the index is reloaded

An added file goes into the subfolder of its landmark, where `glam index sync` expects it, and is named by the digest of
its content. The landmark is the only client input in the path, and it is validated.
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
from glam.app.service.middleware.errors import public_sentence
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import Batcher, BatchRule
from glam.datasets.collection import ImageFile
from glam.errors import GlamError
from glam.index.operations.image_files import read_facts
from glam.index.storage.checksums import atomic_write_bytes
from glam.index.storage.lock import InUseError
from glam.index.writer import ImageToAdd, Writer, open_writer

BATCH = 64
"""Changes per writer; arbitrary."""

MAX_LANDMARK_LENGTH = 100
"""Characters, and half the maximum number of bytes, because the name of a folder has at most 255 bytes."""

MAX_METADATA_BYTES = 10_000
"""Bytes of JSON; arbitrary."""

MAX_METADATA_KEYS = 50
"""Keys; arbitrary."""

Change = Callable[[Writer], int]
"""Changes an index atomically, and returns the image_id of the changed image."""


@dataclass(frozen=True)
class NewFile:
    """An image to add.

    Attributes:
        content: bytes of the file.
        path: path relative to the root of the index.
        landmark: landmark that the image shows; "" if unknown.
        metadata: further metadata: values by name.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        descriptor: (dim,) float32, unit length.
    """

    content: bytes
    path: str
    landmark: str
    metadata: dict[str, Any]
    width: int
    height: int
    descriptor: NDArray[np.float32]


class WriteQueue:
    """Applies changes to an index in a thread. Changes that wait together share a writer.

    Args:
        path: folder of the index.
        on_change: called after the changes and before the requests are answered.
        limits: limits on the queue.
        metrics: metrics to update.
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
    """A change that adds a file. If the index already has it, its image_id stays and its metadata is replaced.

    The change raises:
        HTTPException: 422, `glam index sync` would pass over the file and remove the image.
        GlamError: the file cannot be written.
    """

    def change(writer: Writer) -> int:
        root = Path(writer.config.root).resolve()
        source = writer.config.source
        if source is not None and source.rules(root).reason(file.path):
            raise HTTPException(422, "landmark: The index leaves out the folder of this name. Use another name.")
        image_file = ImageFile(file.path, file.landmark, metadata=file.metadata)
        is_new = write_file(root, file.path, file.content)
        try:
            facts = read_facts(root, image_file)
            if facts is None:
                raise GlamError(f"{file.path} was saved but cannot be read back. Check the disk of the service.")
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
    """A change that removes an image from the index. Its file stays.

    The change raises:
        HTTPException: 404, the image has already been removed.
    """

    def change(writer: Writer) -> int:
        if image_id not in writer.catalog.ids_below(path):
            raise HTTPException(404, f"There is no image {image_id} in this index. It may have been removed.")
        writer.begin_changes()
        with writer.catalog.transaction():
            writer.catalog.remove([image_id])
        return image_id

    return change


def write_error(error: GlamError, *folders: Path) -> HTTPException:
    """The response to a failed change: 409 if another program is writing to the index, otherwise 503.

    Args:
        error: the error.
        folders: see `public_sentence`.
    """
    if isinstance(error, InUseError):  # its message has the command line of the other program
        sentence = "The index is in use by another program. Wait until it has finished, and try again."
        return HTTPException(409, sentence, headers={"Retry-After": "10"})
    return HTTPException(503, public_sentence(error, *folders), headers={"Retry-After": "60"})


def write_file(root: Path, path: str, content: bytes) -> bool:
    """Write a file atomically and durably, and return whether it is new.

    Args:
        root: root of the index.
        path: path of the file relative to ``root``.
        content: bytes of the file.

    Raises:
        GlamError: the path leads outside the root through a link, or the file cannot be written.
    """
    file = root / path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.parent.resolve().is_relative_to(root):
            raise GlamError(
                f"The folder of {path} is a link to a place outside the indexed folder. Use another landmark."
            )
        existed = file.exists()
        atomic_write_bytes(file, content)  # the temporary file has no image suffix, so that `sync` skips it
    except OSError as error:
        raise GlamError(
            f"{path} cannot be written ({error.strerror or error}). Check the permissions and the free space."
        ) from error
    return not existed


def normalize_landmark(landmark: str) -> str:
    """Normalize a landmark, and check that it is valid as the name of a folder.

    Raises:
        HTTPException: 422, the landmark is not valid.
    """
    landmark = unicodedata.normalize("NFC", landmark.strip())
    if len(landmark) > MAX_LANDMARK_LENGTH or len(landmark.encode("utf-8", "replace")) > 2 * MAX_LANDMARK_LENGTH:
        raise HTTPException(422, f"landmark: The name is too long. Use at most {MAX_LANDMARK_LENGTH} characters.")
    if landmark.startswith(".") or any(not _is_plain(character) for character in landmark):
        raise HTTPException(422, "landmark: Remove the dot at the start, slashes, and control characters.")
    return landmark


def parse_metadata(text: str) -> dict[str, str | int | float | bool | None]:
    """Parse metadata from a JSON object.

    Raises:
        HTTPException: 422, the text is not a JSON object of strings, numbers, true, false, and null, or is too large.
    """
    if len(text.encode("utf-8", "replace")) > MAX_METADATA_BYTES:
        raise HTTPException(422, f"metadata: The text is too long. Send at most {MAX_METADATA_BYTES} bytes.")
    try:
        values = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, 'metadata: This is not valid JSON. Send an object such as {"year": 1913}.') from error
    if not isinstance(values, dict) or len(values) > MAX_METADATA_KEYS:
        raise HTTPException(422, f"metadata: Send a JSON object with at most {MAX_METADATA_KEYS} keys.")
    for key, value in values.items():
        if not all(map(_is_plain, key)) or not key or '"' in key:
            raise HTTPException(
                422, "metadata: A key is not valid. Use keys without quotes, slashes, and control characters."
            )
        if not isinstance(value, str | int | float | None):
            raise HTTPException(422, f"metadata: The value of {key} must be a string, a number, true, false, or null.")
        if isinstance(value, float) and not math.isfinite(value):
            raise HTTPException(422, f"metadata: The value of {key} is too large. Use a 64-bit number.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise HTTPException(422, f"metadata: The value of {key} is too large. Use a 64-bit number.")
        if isinstance(value, str) and not _is_unicode(value):
            raise HTTPException(422, f"metadata: The value of {key} is not valid Unicode. Send UTF-8.")
    return values


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_unicode(value: str) -> bool:
    return value.isascii() or value.encode("utf-8", "ignore").decode() == value


def _is_plain(character: str) -> bool:
    return character not in "/\\" and unicodedata.category(character)[0] != "C"
