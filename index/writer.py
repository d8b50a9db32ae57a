"""The one writer of an index: it holds the lock, and makes batches count.

    build, sync, add, remove, compact --open_writer--> Writer --> segments, features, then one transaction of Catalog
                                                       at the end --> ann_cache, knn_graph, checksums

A batch is in the index once its transaction is. A writer that is killed leaves the index as of its last batch, without
checksums; the next one tidies up.
"""

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index import ann_cache
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.local_matching.rootsift import LocalFeatures
from glam.index.milvus import Milvus, MilvusConfig
from glam.index.milvus.sync import MilvusSync, check_available, sync_errors
from glam.index.rerank_store import files as rerank_files
from glam.index.rerank_store.knn_graph import update_graph
from glam.index.rerank_store.local_features import NewFeatures, features_of_all, write_features
from glam.index.storage import segments
from glam.index.storage.catalog import Catalog, DescriptorBatch, FileFacts, IndexConfig, NewImage
from glam.index.storage.checksums import delete_checksums, digest_file, read_checksums, write_checksums
from glam.index.storage.lock import LOCK, write_lock
from glam.index.storage.migrations import upgrade
from glam.index.storage.schema import CATALOG, NoIndexError
from glam.index.storage.segments import delete_unlisted_segments, digest_descriptors, segment_file
from glam.index.storage.snapshot import take_snapshot
from glam.index.types import Descriptors, ImageIds
from glam.progress import Progress, no_progress

OWN_NAMES = frozenset({LOCK, CATALOG, f"{CATALOG}-journal", segments.FOLDER, ann_cache.FOLDER})
"""What a build that was killed before its first batch may have left."""

FAISS: Literal["faiss"] = "faiss"
"""In the place of a `Milvus`: searched on this machine."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DescribedFile(NamedTuple):
    """A file that was described: its facts, pixels of the upright image, (dim,) descriptor."""

    facts: FileFacts
    width: int
    height: int
    descriptor: NDArray[np.float32]


class Writer:
    """Changes an index. Made by `open_writer`.

    Attributes:
        path: folder of the index.
        catalog: of the index; whoever changes it calls `begin_changes` first.
        limits: sizes and times at which the index changes how it works.
    """

    def __init__(self, path: Path, catalog: Catalog, limits: IndexLimits, *, clean: bool) -> None:
        self.path = path
        self.catalog = catalog
        self.limits = limits
        self._changed = not clean
        self._milvus_sync: MilvusSync | None = None

    @property
    def config(self) -> IndexConfig:
        """What the index was built with."""
        return self.catalog.config

    def begin_changes(self) -> None:
        """Marks the index as about to change, by deleting its checksums.

        Raises:
            GlamError: Milvus searches it and cannot be used now.
        """
        self._open_milvus_sync()
        self._delete_checksums()

    def _delete_checksums(self) -> None:
        if not self._changed:
            delete_checksums(self.path)
            self._changed = True

    def add(self, files: Sequence[DescribedFile], unreadable: Sequence[tuple[str, str]] = ()) -> None:
        """Adds one batch, wholly or not at all: descriptors first, then the catalog, which makes them count.

        Args:
            files: each takes the place of what was present at its path.
            unreadable: (path, reason) of files that could not be read.
        """
        if not files and not unreadable:
            return
        self.begin_changes()
        images = [NewImage(file.facts, file.width, file.height) for file in files]
        descriptors = np.stack([file.descriptor for file in files]) if files else None
        number, first = (0, 0) if descriptors is None else self._append(descriptors)
        features = self._write_features(files)
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

    def add_features(self, image_ids: ImageIds, made: Sequence[LocalFeatures | None]) -> None:
        """Stores the local features of images of the index that have none stored yet.

        Args:
            image_ids: (n,), of the images.
            made: n, the features of each image; None for one that has none.
        """
        features = write_features(self.path, self.catalog, made)
        if features is None:
            return
        self.begin_changes()
        with self.catalog.transaction():
            features.register(self.catalog, image_ids)
        self._delete(features.replaced)

    def _write_features(self, files: Sequence[DescribedFile]) -> NewFeatures | None:
        """The local features of a batch, in a file that does not count yet; None where they are not kept."""
        config = self.config
        if rerank_files.LOCAL_FEATURES not in config.keeps:
            return None
        made = features_of_all(Path(config.root), [file.facts for file in files])
        return write_features(self.path, self.catalog, list(made))

    def _delete(self, files: Iterable[rerank_files.StoreFile]) -> None:
        for file in files:
            file.path(self.path).unlink(missing_ok=True)

    def _put_in_milvus(self, image_ids: ImageIds, descriptors: Descriptors) -> None:
        """Puts a committed batch into the collection, if Milvus searches the index."""
        milvus_sync = self._open_milvus_sync()
        if milvus_sync is not None:
            with sync_errors(self.path):
                milvus_sync.put(image_ids, descriptors)

    def _append(self, descriptors: Descriptors) -> tuple[int, int]:
        """Puts (n, dim) descriptors on the disk; returns their segment and first row."""
        number, count = max(self.catalog.segments().items(), default=(0, 0))
        if number == 0 or count + len(descriptors) > self.limits.segment_rows:
            number, count = self.catalog.next_segment(), 0
        segments.append(segment_file(self.path, number), count, descriptors)
        return number, count

    def choose_structure(self, kind: str) -> None:
        """Asks for a kind of search structure; '' has it chosen by size."""
        if kind != self.config.structure:
            self.begin_changes()
            with self.catalog.transaction():
                self.catalog.set_config(replace(self.config, structure=kind))

    def choose_backend(self, wanted: Milvus | None) -> None:
        """Has the index searched by Milvus, or by FAISS where none is given.

        Raises:
            GlamError: the server cannot be used, or the collection is another's.
        """
        config, now = self.config, None if wanted is None else MilvusConfig.of(wanted, self.path)
        if config.milvus == now or (config.milvus and now and config.milvus.is_at(now)):
            return
        if now is not None:
            check_available(now, config)
        self._close_milvus_sync()
        self._delete_checksums()
        with self.catalog.transaction():
            self.catalog.set_config(replace(config, milvus=now))

    def _open_milvus_sync(self) -> MilvusSync | None:
        """The writer's side of the collection, opened when it is first asked for; None where FAISS searches."""
        config = self.config
        if self._milvus_sync is None and config.milvus is not None:
            self._milvus_sync = MilvusSync(config.milvus, config, self.limits)
        return self._milvus_sync

    def _close_milvus_sync(self) -> None:
        if self._milvus_sync is not None:
            self._milvus_sync.close()
            self._milvus_sync = None

    def tidy(self) -> None:
        """Deletes what a killed writer left: files that nothing names, and rows past those that count."""
        known = self.catalog.segments()
        delete_unlisted_segments(self.path, known)
        ann_cache.delete_unlisted(self.path)
        rerank_files.delete_unlisted(self.path, self.catalog)
        for number, count in known.items():
            file, size = segment_file(self.path, number), count * self.config.dim * 4
            if file.exists() and file.stat().st_size > size:
                with file.open("r+b") as out:
                    out.truncate(size)

    def update_structure(self) -> None:
        """Saves the search structure where it has fallen behind, or brings the collection in Milvus up to date.

        Raises:
            GlamError: it cannot be done; the images are in all the same.
        """
        milvus_sync = self._open_milvus_sync()
        if milvus_sync is not None:
            self._update_milvus(milvus_sync)
        if not self._changed:
            return
        try:
            ann_cache.update(self.path, self.catalog, self.limits)
        except (OSError, RuntimeError) as error:
            raise GlamError(
                f"{self.path}: all images are in, but their search structure cannot be saved ({error}); "
                "until a later run saves it, it is built anew each time the index is opened"
            ) from error

    def update_knn_graph(self, progress: Progress = no_progress, *, begin: bool = False) -> None:
        """Brings the graph of nearest images up to date where it is kept.

        Args:
            progress: called with images done and images in all.
            begin: whether it is kept from now on; the index says so when the graph is there, so that a kill in the
                middle of so much work leaves none of it to the next writer.
        """
        keeps = self.config.keeps
        if not begin and not (self._changed and rerank_files.KNN_GRAPH in keeps):
            return
        self._delete_checksums()
        before = rerank_files.store_files(self.catalog, rerank_files.KNN_GRAPH)
        graph = update_graph(self.path, self.catalog, self.limits, progress)
        if graph is not None or rerank_files.KNN_GRAPH not in keeps:
            with self.catalog.transaction():
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
        """Closes the catalog and writes the checksums."""
        self._close_milvus_sync()
        if self._changed:
            self.tidy()
        self.catalog.close()
        if self._changed:
            listed = self.path / ann_cache.FOLDER / ann_cache.LIST
            write_checksums(self.path, [self.path / CATALOG, *([listed] if listed.exists() else [])])


@contextmanager
def open_writer(path: Path, begin: IndexConfig | None = None, limits: IndexLimits = DEFAULT_LIMITS) -> Iterator[Writer]:
    """Opens an index for writing; closed, it is searchable and its checksums are written.

    Args:
        path: folder of the index.
        begin: what a new index is built with, where there is none; None if there has to be one.
        limits: sizes and times at which the index changes how it works.

    Raises:
        GlamError: there is no index or something else, it is damaged, another writer is at work, or the disk is full.
    """
    with _in_one_sentence(path):
        _check_folder(path, begin)
        with write_lock(path):
            writer = _open(path, begin, limits)
            try:
                yield writer
                writer.update_structure()
                writer.update_knn_graph()
            except BaseException:
                # What was committed stays; without room for the checksums the index is as after a kill.
                with suppress(OSError, sqlite3.Error):
                    writer.seal()
                raise
            else:
                writer.seal()
            finally:
                writer.catalog.close()


def _check_folder(path: Path, begin: IndexConfig | None) -> None:
    """Makes the folder of a new index; one that holds something else is left alone."""
    if (path / CATALOG).is_file():
        if not (path / segments.FOLDER).is_dir():
            raise GlamError(f"{path} has no descriptors: only the index it was copied from can be changed")
        return
    if begin is None:
        raise NoIndexError(f"{path}: no index there; `glam index build` makes one")
    if path.exists() and (not path.is_dir() or any(file.name not in OWN_NAMES for file in path.iterdir())):
        raise GlamError(f"{path}: something else is there; an index wants a new or empty folder")
    (path / segments.FOLDER).mkdir(parents=True, exist_ok=True)


def _open(path: Path, begin: IndexConfig | None, limits: IndexLimits) -> Writer:
    checksums = read_checksums(path)
    if checksums is not None and checksums.get(CATALOG) != digest_file(path / CATALOG):
        raise GlamError(
            f"{path / CATALOG}: not as its last writer left it, so nothing is changed; `glam index verify` says more"
        )
    try:
        upgrade(path)
    except NoIndexError:
        if begin is None:
            raise
        return Writer(path, Catalog.create(path, begin), limits, clean=False)
    is_clean = read_checksums(path) is not None  # an upgrade is a change
    writer = Writer(path, Catalog.open(path), limits, clean=is_clean)
    if not is_clean:
        (found,) = writer.catalog.connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise GlamError(f"{path / CATALOG}: damaged ({found})")
        writer.tidy()
    return writer


@contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    """Tells what the disk and the database refuse as people can use it."""
    kept = "the index keeps all that was in it, and the same command goes on from there"
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise GlamError(f"{path}: the disk is full; {kept} once there is room") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise GlamError(f"{path}: it cannot be written ({error.strerror})") from error
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise GlamError(f"{path}: the disk is full; {kept} once there is room") from error
        raise GlamError(f"{path / CATALOG}: it cannot be written ({error}); {kept}") from error
