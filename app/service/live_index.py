"""Hot reload of the index: in-flight requests finish on the old snapshot, new ones use the new snapshot.

request --use--> current ServedIndex
catalog changed --reload--> new current ServedIndex; the old one is closed after its last request
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

import numpy as np

from glam.app.service import schemas
from glam.app.service.facets import facets
from glam.app.service.image_files import IndexedFiles
from glam.app.service.lru_cache import LruCache
from glam.app.service.metrics import Metrics
from glam.errors import GlamError
from glam.index import Index
from glam.index.rerank_store.local_features import DecodeGate
from glam.index.storage.schema import CATALOG
from glam.model import Model

log = logging.getLogger("glam.service")

POLL_SECONDS = 1.0
"""Interval between two checks of the catalog; arbitrary."""

STOP_SECONDS = 5.0
"""Longest wait at shutdown for a reload in progress; arbitrary."""

REST_FACTOR = 4
"""The watcher pauses at least this many times the duration of the last reload, because a writer that adds images for
hours changes the catalog all the time. Arbitrary."""


class ServedIndex:
    """A snapshot of the index, with its image files.

    Attributes:
        index: open index.
        image_files: image files of the index.
        owns_index: whether the service closes the index. If False, the code that opened it does.
        users: number of requests that use the snapshot.
        is_current: whether no newer snapshot has replaced it.
    """

    def __init__(
        self,
        index: Index,
        thumbnails: LruCache[str, bytes],
        facets_lock: Lock,
        gate: DecodeGate,
        *,
        owns_index: bool,
    ) -> None:
        self.index = index
        index.gate_decoding(gate)
        self._facets_lock = facets_lock
        self.owns_index = owns_index
        self.image_files = IndexedFiles(index, thumbnails)
        self.users = 0
        self.is_current = True
        self._columns: asyncio.Future[list[schemas.Column]] | None = None

    def close_if_unused(self) -> None:
        """Close the index if it is no longer current and no request uses it."""
        if self.owns_index and not self.users and not self.is_current:
            self.index.close()

    async def columns(self) -> list[schemas.Column]:
        """Columns that filter expressions can use. They are computed once, however many requests wait for them.

        Raises:
            GlamError: the index cannot be read; the next request tries again.
        """
        if self._columns is None or (self._columns.done() and self._columns.exception() is not None):
            self._columns = asyncio.ensure_future(asyncio.to_thread(self._compute_columns))
        return await asyncio.shield(self._columns)

    def _compute_columns(self) -> list[schemas.Column]:
        with self._facets_lock:
            return facets(self.index.path)


class LiveIndex:
    """The current snapshot of the index.

    Args:
        index: first snapshot.
        model: model that the index was built with. A newer snapshot with another model is not served.
        cache_bytes: capacity of the thumbnail cache in bytes.
        metrics: metrics to update.
        gate: re-ranking decodes image files inside this.
        owns_index: whether the service closes the first snapshot.
    """

    def __init__(
        self, index: Index, model: Model, cache_bytes: int, metrics: Metrics, gate: DecodeGate, *, owns_index: bool
    ) -> None:
        self._model, self._metrics, self._gate = model, metrics, gate
        self._thumbnails: LruCache[str, bytes] = LruCache(cache_bytes, len)
        self._facets_lock = Lock()  # one snapshot at a time: an index that changes all the time would use all cores
        self._version = _version(index.path)
        self._served = ServedIndex(index, self._thumbnails, self._facets_lock, gate, owns_index=owns_index)
        self._lock = Lock()
        self._reload_lock = Lock()
        metrics.set_index_images(len(index))

    @property
    def served(self) -> ServedIndex:
        """The current snapshot, which may be closed at any time; `use` keeps it open."""
        return self._served

    @contextmanager
    def use(self) -> Iterator[ServedIndex]:
        """Context manager: the current snapshot, kept open inside the block."""
        with self._lock:
            served = self._served
            served.users += 1
        try:
            yield served
        finally:
            with self._lock:
                served.users -= 1
                served.close_if_unused()

    def reload(self) -> bool:
        """Reload the index if its catalog has changed, and return whether it has.

        Raises:
            GlamError: the index cannot be opened, or now has another model. The old snapshot stays current.
        """
        with self._reload_lock:
            version = _version(self._served.index.path)
            if version == self._version:
                return False
            try:
                served = ServedIndex(self._open(), self._thumbnails, self._facets_lock, self._gate, owns_index=True)
            except BaseException:
                self._metrics.index_failed()
                raise
            with self._lock:
                old, self._served = self._served, served
                old.is_current = False
                old.close_if_unused()
            self._version = version
            self._metrics.index_opened(len(served.index))
            return True

    def _open(self) -> Index:
        """Open the index on disk and warm it up, because the first search of an index is slow."""
        index = Index.open(self._served.index.path, device=self._served.index.device)
        try:
            index.check_model(self._model)
            if len(index):
                index.search(np.eye(1, index.dim, dtype=np.float32), 1)  # any query of unit length
        except BaseException:
            index.close()
            raise
        return index

    def close(self) -> None:
        """Close the index when its last request has ended."""
        with self._lock:
            self._served.is_current = False
            self._served.close_if_unused()


class IndexWatcher:
    """A thread that polls the catalog and reloads the index when it has changed."""

    def __init__(self, live_index: LiveIndex) -> None:
        self._live_index = live_index
        self._stop = Event()
        self._thread = Thread(target=self._run, name="watch-index", daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, and wait a few seconds for a reload in progress."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        rest = POLL_SECONDS
        while not self._stop.wait(rest):
            began = time.monotonic()
            try:
                if self._live_index.reload():
                    log.info("index opened", extra={"facts": {"images": len(self._live_index.served.index)}})
            except (GlamError, OSError) as error:
                log.warning("index not opened", extra={"facts": {"reason": str(error)}})
            rest = max(POLL_SECONDS, REST_FACTOR * (time.monotonic() - began))


def _version(index: Path) -> tuple[int, int, int]:
    """Inode, size, and modification time of the catalog in the folder ``index``; they change with every commit."""
    try:
        stat = (index / CATALOG).stat()
    except OSError:
        return (0, 0, 0)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
