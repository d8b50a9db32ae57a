"""The one writer of an index: it holds the lock, and makes batches count.

    build, sync, add, remove, compact --open_writer--> Writer --> segments, features, then one transaction of Catalogue
                                                       at the end --> saved (search structure), neighbours, checksums

A batch is in the index once its transaction is. A writer that is killed leaves the index as of its last batch, without
checksums; the next one tidies up.
"""

import errno
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from glam.index.milvus import Milvus, Place
from glam.index.milvus.sync import Mirror, check_free, keeping
from glam.index.rerank_store import files as rerank_files
from glam.index.rerank_store.knn_graph import renewed_graph
from glam.index.rerank_store.local_features import NewFeatures, features_of_all, write_features
from glam.index.storage import segments
from glam.index.storage.catalog import About, Batch, Catalogue, Facts, NewImage
from glam.index.storage.checksums import delete_checksums, read_checksums, write_checksums
from glam.index.storage.digests import digest_file
from glam.index.storage.lock import LOCK, writing
from glam.index.storage.migrations import upgrade
from glam.index.storage.schema import CATALOGUE, NoIndexError
from glam.index.storage.segments import delete_unknown, digest_rows, segment_file
from glam.index.storage.snapshot import take_snapshot
from glam.index.types import Numbers, Rows

OWN_NAMES = frozenset({LOCK, CATALOGUE, f"{CATALOGUE}-journal", segments.FOLDER, ann_cache.FOLDER})
"""What a build that was killed before its first batch may have left."""

FAISS: Literal["faiss"] = "faiss"
"""In the place of a `Milvus`: searched on this machine."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DescribedFile(NamedTuple):
    """A file that was described: its facts, pixels of the upright image, (dim,) descriptor."""

    facts: Facts
    width: int
    height: int
    descriptor: NDArray[np.float32]


class Writer:
    """Changes an index. Made by `open_writer`.

    Attributes:
        path: folder of the index.
        catalogue: of the index; who changes it by itself says `changes` first.
        limits: sizes and times at which the index changes how it works.
    """

    def __init__(self, path: Path, catalogue: Catalogue, limits: IndexLimits, *, clean: bool) -> None:
        self.path = path
        self.catalogue = catalogue
        self.limits = limits
        self._changed = not clean
        self._mirror: Mirror | None = None

    @property
    def about(self) -> About:
        """What the index was built with."""
        return self.catalogue.about

    def changes(self) -> None:
        """Says that the index is about to change.

        Raises:
            GlamError: Milvus searches it and cannot be used now.
        """
        self._opened_mirror()
        self._begin()

    def _begin(self) -> None:
        if not self._changed:
            delete_checksums(self.path)
            self._changed = True

    def add(self, files: Sequence[DescribedFile], unreadable: Sequence[tuple[str, str]] = ()) -> None:
        """Adds one batch, wholly or not at all: descriptors first, then the catalogue, which makes them count.

        Args:
            files: each takes the place of what was present at its path.
            unreadable: (path, reason) of files that could not be read.
        """
        if not files and not unreadable:
            return
        self.changes()
        images = [NewImage(file.facts, file.width, file.height) for file in files]
        rows = np.stack([file.descriptor for file in files]) if files else None
        number, first = (0, 0) if rows is None else self._append(rows)
        features = self._write_features(files)
        with self.catalogue.transaction():
            self.catalogue.add_unreadable(unreadable)
            if rows is not None:
                ids = self.catalogue.add_images(images)
                self.catalogue.add_batch(Batch(number, first, ids, digest_rows(rows)))
                if features is not None:
                    features.put(self.catalogue, ids)
        if features is not None:
            self._delete(features.joined)
        if rows is not None:
            self._put(ids, rows)

    def add_features(self, images: Numbers, made: Sequence[LocalFeatures | None]) -> None:
        """Keeps the local features of images of the index, of which none are kept yet: ids (n,), and n of them."""
        features = write_features(self.path, self.catalogue, made)
        if features is None:
            return
        self.changes()
        with self.catalogue.transaction():
            features.put(self.catalogue, images)
        self._delete(features.joined)

    def _write_features(self, files: Sequence[DescribedFile]) -> NewFeatures | None:
        """The local features of a batch, in a file that does not count yet; None where they are not kept."""
        about = self.about
        if rerank_files.FEATURES not in about.keeps:
            return None
        made = features_of_all(Path(about.root), [file.facts for file in files])
        return write_features(self.path, self.catalogue, list(made))

    def _delete(self, files: Iterable[rerank_files.KeptFile]) -> None:
        for file in files:
            file.path(self.path).unlink(missing_ok=True)

    def _put(self, ids: Numbers, rows: Rows) -> None:
        """Puts a batch that is committed where Milvus finds it."""
        mirror = self._opened_mirror()
        if mirror is not None:
            with keeping(self.path):
                mirror.put(ids, rows)

    def _append(self, rows: Rows) -> tuple[int, int]:
        """Puts (n, dim) descriptors on the disk; returns their segment and first row."""
        number, count = max(self.catalogue.segments().items(), default=(0, 0))
        if number == 0 or count + len(rows) > self.limits.segment_rows:
            number, count = self.catalogue.next_segment(), 0
        segments.append(segment_file(self.path, number), count, rows)
        return number, count

    def choose_structure(self, kind: str) -> None:
        """Asks for a kind of search structure; '' has it chosen by size."""
        if kind != self.about.structure:
            self.changes()
            with self.catalogue.transaction():
                self.catalogue.set_about(replace(self.about, structure=kind))

    def choose_backend(self, wanted: Milvus | None) -> None:
        """Has the index searched by Milvus, or by FAISS where none is given.

        Raises:
            GlamError: the server cannot be used, or the collection is another's.
        """
        about, now = self.about, None if wanted is None else Place.of(wanted, self.path)
        if about.milvus == now or (about.milvus and now and about.milvus.is_at(now)):
            return
        if now is not None:
            check_free(now, about)
        self._close_mirror()
        self._begin()
        with self.catalogue.transaction():
            self.catalogue.set_about(replace(about, milvus=now))

    def _opened_mirror(self) -> Mirror | None:
        """The collection, opened when it is first asked for; None where FAISS searches."""
        about = self.about
        if self._mirror is None and about.milvus is not None:
            self._mirror = Mirror(about.milvus, about, self.limits)
        return self._mirror

    def _close_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    def tidy(self) -> None:
        """Deletes what a killed writer left: files that nothing names, and rows past those that count."""
        known = self.catalogue.segments()
        delete_unknown(self.path, known)
        ann_cache.delete_unknown(self.path)
        rerank_files.delete_unknown(self.path, self.catalogue)
        for number, rows in known.items():
            file, size = segment_file(self.path, number), rows * self.about.dim * 4
            if file.exists() and file.stat().st_size > size:
                with file.open("r+b") as out:
                    out.truncate(size)

    def renew_structure(self) -> None:
        """Saves the search structure where it has fallen behind, or brings the collection in Milvus up to date.

        Raises:
            GlamError: it cannot be done; the images are in all the same.
        """
        mirror = self._opened_mirror()
        if mirror is not None:
            self._renew_mirror(mirror)
        if not self._changed:
            return
        try:
            ann_cache.renew(self.path, self.catalogue, self.limits)
        except (OSError, RuntimeError) as error:
            raise GlamError(
                f"{self.path}: all images are in, but their search structure cannot be saved ({error}); "
                "until a later run saves it, it is built anew each time the index is opened"
            ) from error

    def renew_graph(
        self, progress: Callable[[int, int], None] = lambda done, total: None, *, begin: bool = False
    ) -> None:
        """Brings the graph of nearest images up to date where it is kept.

        Args:
            progress: called with images done and images in all.
            begin: whether it is kept from now on; the index says so when the graph is there, so that a kill in the
                middle of so much work leaves none of it to the next writer.
        """
        keeps = self.about.keeps
        if not begin and not (self._changed and rerank_files.NEIGHBOURS in keeps):
            return
        self._begin()
        before = rerank_files.kept_files(self.catalogue, rerank_files.NEIGHBOURS)
        graph = renewed_graph(self.path, self.catalogue, self.limits, progress)
        if graph is not None or rerank_files.NEIGHBOURS not in keeps:
            with self.catalogue.transaction():
                rerank_files.put_kept(self.catalogue, graph, before if graph is not None else ())
                self.catalogue.set_about(
                    replace(self.about, keeps=rerank_files.with_kind(keeps, rerank_files.NEIGHBOURS))
                )

    def _renew_mirror(self, mirror: Mirror) -> None:
        with keeping(self.path):
            digest = mirror.renew(take_snapshot(self.path, self.catalogue), self.about)
        if digest != mirror.place.images:
            self._begin()
            with self.catalogue.transaction():
                self.catalogue.set_about(replace(self.about, milvus=replace(mirror.place, images=digest)))

    def seal(self) -> None:
        """Closes the catalogue and writes the checksums."""
        self._close_mirror()
        if self._changed:
            self.tidy()
        self.catalogue.close()
        if self._changed:
            listed = self.path / ann_cache.FOLDER / ann_cache.LIST
            write_checksums(self.path, [self.path / CATALOGUE, *([listed] if listed.exists() else [])])


@contextmanager
def open_writer(path: Path, begin: About | None = None, limits: IndexLimits = DEFAULT_LIMITS) -> Iterator[Writer]:
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
        with writing(path):
            writer = _opened(path, begin, limits)
            try:
                yield writer
                writer.renew_structure()
                writer.renew_graph()
            except BaseException:
                # What was committed stays; without room for the checksums the index is as after a kill.
                with suppress(OSError, sqlite3.Error):
                    writer.seal()
                raise
            else:
                writer.seal()
            finally:
                writer.catalogue.close()


def _check_folder(path: Path, begin: About | None) -> None:
    """Makes the folder of a new index; one that holds something else is left alone."""
    if (path / CATALOGUE).is_file():
        if not (path / segments.FOLDER).is_dir():
            raise GlamError(f"{path} has no descriptors: only the index it was copied from can be changed")
        return
    if begin is None:
        raise NoIndexError(f"{path}: no index there; `glam index build` makes one")
    if path.exists() and (not path.is_dir() or any(file.name not in OWN_NAMES for file in path.iterdir())):
        raise GlamError(f"{path}: something else is there; an index wants a new or empty folder")
    (path / segments.FOLDER).mkdir(parents=True, exist_ok=True)


def _opened(path: Path, begin: About | None, limits: IndexLimits) -> Writer:
    checksums = read_checksums(path)
    if checksums is not None and checksums.get(CATALOGUE) != digest_file(path / CATALOGUE):
        raise GlamError(
            f"{path / CATALOGUE}: not as its last writer left it, so nothing is changed; `glam index verify` says more"
        )
    try:
        upgrade(path)
    except NoIndexError:
        if begin is None:
            raise
        return Writer(path, Catalogue.create(path, begin), limits, clean=False)
    is_clean = read_checksums(path) is not None  # an upgrade is a change
    writer = Writer(path, Catalogue.open(path), limits, clean=is_clean)
    if not is_clean:
        (found,) = writer.catalogue.connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise GlamError(f"{path / CATALOGUE}: damaged ({found})")
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
        raise GlamError(f"{path / CATALOGUE}: it cannot be written ({error}); {kept}") from error
