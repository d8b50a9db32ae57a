"""The writer of an index: it holds the lock and commits batches.

    build, sync, add, remove, compact --open_writer--> Writer --> segments, local features, then a catalog transaction
                                                       on closing --> ann_cache, knn_graph, checksums

A writer first checks all that it builds on. It changes files only while `Catalog.exclusive` keeps other writers out. A
batch belongs to the index as soon as its transaction is committed. After a writer is killed, the index is in the state
of its last committed batch and has no checksums; the next writer cleans up.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.atomic_file import make_folder
from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.milvus import Milvus, MilvusConfig
from glam.index.milvus.sync import MilvusSync, check_available, sync_errors
from glam.index.rerank_store import files as rerank_files
from glam.index.rerank_store.knn_graph import update_graph
from glam.index.rerank_store.local_features import features_of_all, write_features
from glam.index.storage import segments
from glam.index.storage.catalog import Catalog
from glam.index.storage.checks import check_folder
from glam.index.storage.checksums import CHECKSUMS, delete_checksums, digest_file, read_checksums, write_checksums
from glam.index.storage.errors import storage_errors
from glam.index.storage.lock import LOCK, HeldLock, LockLostError, write_lock
from glam.index.storage.migrations import upgrade
from glam.index.storage.records import DescriptorBatch, FileFacts, IndexConfig, NewImage
from glam.index.storage.schema import CATALOG, NoIndexError, catalog_digest
from glam.index.storage.segment_check import check_segments, check_sizes
from glam.index.storage.segments import delete_unlisted_segments, digest_descriptors, is_usable, segment_file
from glam.index.storage.snapshot import take_snapshot
from glam.index.types import Descriptors, ImageIds
from glam.progress import Progress, no_progress

OWN_NAMES = frozenset({LOCK, CATALOG, f"{CATALOG}-journal", segments.FOLDER, ann_cache.FOLDER})
"""Names that a build leaves in a new folder if it is killed before its first batch."""

FAISS: Literal["faiss"] = "faiss"
"""The backend that searches on this machine, as opposed to a `Milvus`."""

FIRST_WAIT = 2.0
"""Seconds that a new writer waits for the catalog (arbitrary). Readers have it for milliseconds; a writer that still
has it is one whose lock was deleted."""


class ImageToAdd(NamedTuple):
    """An image to add to an index, with its descriptor.

    Attributes:
        facts: path, landmark, metadata, hash, size, and modification time of the image's file.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        descriptor: (dim,) float32 of unit length.
    """

    facts: FileFacts
    width: int
    height: int
    descriptor: NDArray[np.float32]


class Writer:
    """Changes an index. `open_writer` creates it.

    Attributes:
        path: folder of the index.
        catalog: catalog of the index. Call `begin_changes` before changing it.
        limits: limits of the index.
    """

    def __init__(self, path: Path, catalog: Catalog, limits: IndexLimits, lock: HeldLock, *, clean: bool) -> None:
        self.path = path
        self.catalog = catalog
        self.limits = limits
        self._lock = lock
        self._changed = not clean
        self._milvus_sync: MilvusSync | None = None
        catalog.before_change = self._before_change

    def _before_change(self) -> None:
        """Checks that no other writer can be active; see `glam.index.storage.lock`."""
        self._lock.check()
        if self._changed and (self.path / CHECKSUMS).exists():  # written by a writer that had lost its lock
            delete_checksums(self.path)

    @property
    def config(self) -> IndexConfig:
        """The configuration of the index: its model, settings, root, and backend."""
        return self.catalog.config

    def begin_changes(self) -> None:
        """Marks the index as being changed, by deleting its checksums.

        Raises:
            GlamError: the index uses Milvus, and the server cannot be reached.
        """
        self._open_milvus_sync()
        self._delete_checksums()

    def _delete_checksums(self) -> None:
        if not self._changed:
            delete_checksums(self.path)
            self._changed = True

    def add(self, batch: Sequence[ImageToAdd], unreadable: Sequence[tuple[str, str]] = ()) -> None:
        """Adds a batch atomically: it writes the descriptors first, then commits them in the catalog.

        Args:
            batch: images to add. Each replaces the image at the same path, if there is one.
            unreadable: path and reason of each file that could not be read.

        Raises:
            GlamError: a descriptor has another length than those of the index, is zero, or is not finite, and nothing
                was written; or the index uses Milvus, and the server cannot be reached.
        """
        if not batch and not unreadable:
            return
        descriptors = self._checked_descriptors(batch) if batch else None
        self.begin_changes()
        images = [NewImage(image.facts, image.width, image.height) for image in batch]
        features = write_features(self.path, self.catalog, self._extract_features(batch))
        number, first = (0, 0) if descriptors is None else self._append(descriptors)
        with self.catalog.transaction():
            self.catalog.add_unreadable(unreadable)
            if descriptors is not None:
                image_ids = self.catalog.add_images(images)
                self.catalog.add_batch(DescriptorBatch(number, first, image_ids, digest_descriptors(descriptors)))
                if features is not None:
                    features.register(self.catalog, image_ids)
        if features is not None:
            self._delete(features.replaced)
        if descriptors is not None:
            self._put_in_milvus(image_ids, descriptors)

    def _checked_descriptors(self, batch: Sequence[ImageToAdd]) -> Descriptors:
        """The descriptors of a batch, (n, dim) float32.

        Raises:
            GlamError: one has another length than those of the index, or is zero or not finite.
        """
        descriptors = np.empty((len(batch), self.config.dim), np.float32)
        for row, image in zip(descriptors, batch, strict=True):
            if np.shape(image.descriptor) != row.shape:
                raise GlamError(
                    f"The descriptor of {image.facts.path} has the shape {np.shape(image.descriptor)}, and those of "
                    f"{self.path} have the shape {row.shape}. Describe the image with the model of the index."
                )
            row[:] = image.descriptor
            if not is_usable(row):
                raise GlamError(
                    f"The descriptor of {image.facts.path} is zero or not finite. Describe the image again."
                )
        return descriptors

    def add_features(self, image_ids: ImageIds, features: Sequence[LocalFeatures | None]) -> None:
        """Stores local features of images in the index that have none stored yet.

        Args:
            image_ids: (n,) int64, ids of the images.
            features: n items, the local features of each image; None for an image without features.

        Raises:
            GlamError: the index uses Milvus, and the server cannot be reached.
        """
        if all(found is None for found in features):
            return
        self.begin_changes()
        written = write_features(self.path, self.catalog, features)
        assert written is not None
        with self.catalog.transaction():
            written.register(self.catalog, image_ids)
        self._delete(written.replaced)

    def _extract_features(self, batch: Sequence[ImageToAdd]) -> Sequence[LocalFeatures | None]:
        """The local features of a batch; none if the index does not store them."""
        config = self.config
        if rerank_files.LOCAL_FEATURES not in config.keeps:
            return ()
        return list(features_of_all(Path(config.root), [image.facts for image in batch]))

    def _delete(self, files: Iterable[rerank_files.StoreFile]) -> None:
        for file in files:
            file.path(self.path).unlink(missing_ok=True)

    def _put_in_milvus(self, image_ids: ImageIds, descriptors: Descriptors) -> None:
        """Inserts a committed batch into the Milvus collection, if the index has one."""
        milvus_sync = self._open_milvus_sync()
        if milvus_sync is not None:
            with sync_errors(self.path):
                milvus_sync.put(image_ids, descriptors)

    def _append(self, descriptors: Descriptors) -> tuple[int, int]:
        """Writes (n, dim) descriptors to disk; returns the number of their segment and their first row in it."""
        number, count = max(self.catalog.segments().items(), default=(0, 0))
        if number == 0 or count + len(descriptors) > self.limits.segment_rows:
            number, count = self.catalog.next_segment(), 0
        segments.append(segment_file(self.path, number), count, descriptors, self.catalog.exclusive())
        return number, count

    def choose_structure(self, kind: str) -> None:
        """Sets the kind of search structure.

        Args:
            kind: one of `glam.index.ann.KINDS`; '' chooses by the number of images.
        """
        self.change_config(structure=kind)

    def change_config(self, **changes: Any) -> None:
        """Changes fields of the configuration, unless they have these values already.

        Args:
            changes: new values by field of `IndexConfig`.

        Raises:
            GlamError: the index uses Milvus, and the server cannot be reached.
        """
        config = replace(self.config, **changes)
        if config != self.config:
            self.begin_changes()
            with self.catalog.transaction():
                self.catalog.set_config(config)

    def choose_backend(self, milvus: Milvus | None) -> None:
        """Sets the backend that searches the index.

        Args:
            milvus: server and name of a Milvus collection; None for FAISS.

        Raises:
            GlamError: the Milvus server cannot be reached, or the Milvus collection belongs to another index.
        """
        config, new = self.config, None if milvus is None else MilvusConfig.of(milvus, self.path)
        if config.milvus == new or (config.milvus and new and config.milvus.is_at(new)):
            return
        if new is not None:
            check_available(new, config)
        self._close_milvus_sync()
        self._delete_checksums()
        with self.catalog.transaction():
            self.catalog.set_config(replace(config, milvus=new))

    def _open_milvus_sync(self) -> MilvusSync | None:
        """The connection to the Milvus collection, opened at the first call; None if FAISS searches the index."""
        config = self.config
        if self._milvus_sync is None and config.milvus is not None:
            self._milvus_sync = MilvusSync(config.milvus, config, self.limits)
        return self._milvus_sync

    def _close_milvus_sync(self) -> None:
        if self._milvus_sync is not None:
            self._milvus_sync.close()
            self._milvus_sync = None

    def tidy(self) -> None:
        """Cleans up after a killed writer: deletes unlisted files, and uncommitted rows at the end of segments.

        Raises:
            GlamError: a segment that the catalog lists is missing or too short. Then nothing is deleted, because what
                the catalog does not list may be all that is left.
        """
        with self.catalog.exclusive():
            known, dim = self.catalog.segments(), self.config.dim
            for number in check_sizes(self.path, known, dim):
                segments.truncate(segment_file(self.path, number), known[number], dim)
            delete_unlisted_segments(self.path, known)
            ann_cache.delete_unlisted(self.path)
            rerank_files.delete_unlisted(self.path, self.catalog)

    def update_structure(self) -> None:
        """Saves the search structure if it is out of date, or updates the Milvus collection.

        Raises:
            GlamError: this is impossible; the images that were added stay in the index.
        """
        milvus_sync = self._open_milvus_sync()
        if milvus_sync is not None:
            self._update_milvus(milvus_sync)
        if not self._changed:
            return
        try:
            with self.catalog.exclusive():
                ann_cache.update(self.path, self.catalog, self.limits)
        except (OSError, RuntimeError) as error:
            raise GlamError(
                f"{self.path} is complete, but its search structure could not be saved ({error}). Searches work, but "
                "opening the index is slow. Run glam index sync to save it."
            ) from error

    def update_knn_graph(self, progress: Progress = no_progress, *, begin: bool = False) -> None:
        """Updates the kNN graph, if the index stores one.

        Args:
            progress: called with the number of images done and the total.
            begin: whether to start storing the graph. The configuration changes only when the graph is complete, so
                that a kill does not leave this long computation to the next writer.
        """
        keeps = self.config.keeps
        if not begin and not (self._changed and rerank_files.KNN_GRAPH in keeps):
            return
        self._delete_checksums()
        with self.catalog.transaction():
            before = rerank_files.store_files(self.catalog, rerank_files.KNN_GRAPH)
            graph = update_graph(self.path, self.catalog, self.limits, progress)
            if graph is not None or rerank_files.KNN_GRAPH not in keeps:
                rerank_files.register_file(self.catalog, graph, before if graph is not None else ())
                self.catalog.set_config(
                    replace(self.config, keeps=rerank_files.with_kind(keeps, rerank_files.KNN_GRAPH))
                )

    def _update_milvus(self, milvus_sync: MilvusSync) -> None:
        with sync_errors(self.path):
            digest = milvus_sync.update(take_snapshot(self.path, self.catalog), self.config)
        if digest != milvus_sync.config.images:
            self._delete_checksums()
            with self.catalog.transaction():
                self.catalog.set_config(replace(self.config, milvus=replace(milvus_sync.config, images=digest)))

    def seal(self) -> None:
        """Closes the catalog, and writes the checksums if anything changed."""
        self._close_milvus_sync()
        if not self._changed:
            return
        try:
            with self.catalog.exclusive():
                self.tidy()
                digests = {CATALOG: catalog_digest(self.catalog.connection, self.path)}
                listed = self.path / ann_cache.FOLDER / ann_cache.LIST
                if listed.exists():
                    digests[listed.relative_to(self.path).as_posix()] = digest_file(listed)
                write_checksums(self.path, digests)
        except LockLostError:
            delete_checksums(self.path)  # those of another writer may miss the last change of this one
            raise


@contextmanager
def open_writer(path: Path, begin: IndexConfig | None = None, limits: IndexLimits = DEFAULT_LIMITS) -> Iterator[Writer]:
    """Opens an index for writing, after checking all that is built on.

    On exit it saves the search structure, the kNN graph, and the checksums.

    Args:
        path: folder of the index.
        begin: configuration of a new index if the folder holds none; None if the index must exist.
        limits: limits of the index.

    Yields:
        The writer, which holds the lock of the index.

    Raises:
        GlamError: there is no index, the folder holds something else, the index is damaged, another writer is active,
            or the disk is full.
    """
    with storage_errors(path):
        _check_folder(path, begin)
        with write_lock(path) as lock:
            writer = _open(path, begin, limits, lock)
            try:
                yield writer
                writer.update_structure()
                writer.update_knn_graph()
            except BaseException:
                # Committed batches stay. If the checksums cannot be written, the index is in the state after a kill.
                with suppress(OSError, sqlite3.Error, GlamError):
                    writer.seal()
                raise
            else:
                writer.seal()
            finally:
                writer.catalog.close()


def _check_folder(path: Path, begin: IndexConfig | None) -> None:
    """Creates the folder of a new index, unless the path holds something else."""
    if (path / CATALOG).is_file():
        check_folder(path)
        if not (path / segments.FOLDER).is_dir():
            raise GlamError(f"{path} is a copy without descriptors. Change the index that it was copied from.")
        return
    if begin is None:
        raise NoIndexError(f"{path}: no index there. Check the path, or create an index with `glam index build`.")
    if path.exists() and (not path.is_dir() or any(file.name not in OWN_NAMES for file in path.iterdir())):
        raise GlamError(f"{path} is neither an index nor empty. Choose a new or empty folder.")
    check_folder(path)
    make_folder(path / segments.FOLDER, on_disk=True)


def _open(path: Path, begin: IndexConfig | None, limits: IndexLimits, lock: HeldLock) -> Writer:
    try:
        upgrade(path)
    except NoIndexError:
        if begin is None:
            raise
        return Writer(path, Catalog.create(path, begin), limits, lock, clean=False)
    is_clean = read_checksums(path) is not None  # an upgrade is a change
    writer = Writer(path, Catalog.open(path), limits, lock, clean=is_clean)
    try:
        with writer.catalog.exclusive(wait=FIRST_WAIT):
            check_segments(path, writer.catalog, spot_bytes=limits.spot_bytes)
            if not is_clean:
                writer.tidy()
    except BaseException:
        writer.catalog.close()
        raise
    return writer
