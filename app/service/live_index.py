"""The index being served, and its change for a newer one while requests go on.

request --use--> ServedIndex of this moment          catalog changed --renew--> a new ServedIndex takes its place;
                                                 the old one is closed when its last request has ended
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, Thread

from glam.app.service import schemas
from glam.app.service.facets import facets
from glam.app.service.image_files import IndexedFiles
from glam.app.service.lru_cache import LruCache
from glam.app.service.metrics import Metrics
from glam.errors import GlamError
from glam.index import Index
from glam.index.storage.schema import CATALOG
from glam.model import Model

log = logging.getLogger("glam.service")

LOOK_SECONDS = 1.0
"""Between two looks at the catalog."""

REST = 4
"""A writer that adds for hours changes the catalog all the time: between two openings lies so many times as long as
the last one took."""


class ServedIndex:
    """An index as it was at one moment, with its photographs.

    Attributes:
        index: open.
        photographs: its files.
        ours: whether it is for the service to close, and not for who opened it.
    """

    def __init__(self, index: Index, thumbnails: LruCache[str, bytes], *, ours: bool) -> None:
        self.index = index
        self.ours = ours
        self.photographs = IndexedFiles(index, thumbnails)
        self.users = 0
        self.is_current = True

    def close_if_ended(self) -> None:
        """Closes the index once it is not current any more and its last request has ended."""
        if self.ours and not self.users and not self.is_current:
            self.index.close()

    @cached_property
    def columns(self) -> list[schemas.Column]:
        """What its images can be filtered by."""
        return facets(self.index.path)


class LiveIndex:
    """The index that is being served now.

    Args:
        index: at first.
        model: that described it; a newer index of another model is not taken.
        cache_bytes: memory for thumbnails.
        metrics: counts.
        ours: whether the first index is for the service to close.
    """

    def __init__(self, index: Index, model: Model, cache_bytes: int, metrics: Metrics, *, ours: bool) -> None:
        self._model, self._metrics = model, metrics
        self._thumbnails: LruCache[str, bytes] = LruCache(cache_bytes, len)
        self._seen = _version(index.path)
        self._serving = ServedIndex(index, self._thumbnails, ours=ours)
        self._lock = Lock()
        self._renewing = Lock()
        metrics.serves(len(index))

    @property
    def serving(self) -> ServedIndex:
        """The newest; who keeps it for long takes it with `use`."""
        return self._serving

    @contextmanager
    def use(self) -> Iterator[ServedIndex]:
        """The newest, which stays open inside."""
        with self._lock:
            serving = self._serving
            serving.users += 1
        try:
            yield serving
        finally:
            with self._lock:
                serving.users -= 1
                serving.close_if_ended()

    def renew(self) -> bool:
        """Opens the index anew if its catalog changed since it was last opened; returns whether it did.

        Raises:
            GlamError: it cannot be opened, or is of another model now; the one before is being served.
        """
        with self._renewing:
            version = _version(self._serving.index.path)
            if version == self._seen:
                return False
            try:
                serving = ServedIndex(self._opened(), self._thumbnails, ours=True)
            except BaseException:
                self._metrics.index_failed()
                raise
            with self._lock:
                old, self._serving = self._serving, serving
                old.is_current = False
                old.close_if_ended()
            self._seen = version
            self._metrics.index_opened(len(serving.index))
            return True

    def _opened(self) -> Index:
        """The index as it is now, warmed up: the first search of an index is slower than the others."""
        index = Index.open(self._serving.index.path)
        try:
            index.check_model(self._model)
            if len(index):
                index.search(index.descriptor(int(index.image_ids[0])), 1)
        except BaseException:
            index.close()
            raise
        return index

    def close(self) -> None:
        """Closes the index once its last request has ended."""
        with self._lock:
            self._serving.is_current = False
            self._serving.close_if_ended()


class IndexWatcher:
    """Looks after the catalog in a thread, and has the index opened anew when it changed."""

    def __init__(self, current: LiveIndex) -> None:
        self._current = current
        self._stop = Event()
        self._thread = Thread(target=self._run, name="watch-index", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, after the opening that may be under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rest = LOOK_SECONDS
        while not self._stop.wait(rest):
            began = time.monotonic()
            try:
                if self._current.renew():
                    log.info("index opened", extra={"facts": {"images": len(self._current.serving.index)}})
            except (GlamError, OSError) as error:
                log.warning("index not opened", extra={"facts": {"reason": str(error)}})
            rest = max(LOOK_SECONDS, REST * (time.monotonic() - began))


def _version(index: Path) -> tuple[int, int, int]:
    """Changes with every commit to the catalog of the index in the folder ``index``."""
    try:
        stat = (index / CATALOG).stat()
    except OSError:
        return (0, 0, 0)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
