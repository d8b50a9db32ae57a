"""The catalog of an index, an SQLite database: its images, their files, and the rows of their descriptors.

    Writer (changes it)          Index, verify, info, sync (read it)          --> Catalog --> SQLite

Only descriptors that the catalog lists belong to the index. `glam.index.storage.schema` defines the tables;
`glam.index.storage.migrations` upgrades the tables of older versions.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.storage.checks import check_catalog, check_folder
from glam.index.storage.config_json import config_from_json, config_to_json
from glam.index.storage.lock import InUseError
from glam.index.storage.records import DescriptorBatch, Entry, FileFacts, IndexConfig, NewImage, StoredImage
from glam.index.storage.schema import (
    BUSY_SECONDS,
    CATALOG,
    READABLE,
    SCHEMA_VERSION,
    catalog_error,
    connect,
    create_tables,
    damaged_catalog,
    open_any_version,
)
from glam.index.types import ImageIds, Rows, SegmentNumbers


class Catalog:
    """The catalog of an index. Only one thread at a time may use it; `IndexReader` ensures this with a lock.

    Attributes:
        connection: connection to the database, on which `glam.index.storage.filters` runs its queries.
        before_change: called whenever other writers have been kept out, before anything is changed. An error that it
            raises ends that.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.before_change: Callable[[], None] = _nothing

    @classmethod
    def create(cls, index: Path, config: IndexConfig) -> "Catalog":
        """Creates an empty catalog.

        Args:
            index: folder of the index, which must not hold a catalog.
            config: configuration of the index.
        """
        catalog = cls(connect(index / CATALOG, "rwc"))
        with catalog.transaction():
            create_tables(catalog.connection)
            catalog.connection.execute("INSERT INTO about VALUES (?)", [config_to_json(config)])
        return catalog

    @classmethod
    def open(cls, index: Path, check: Callable[[sqlite3.Connection, Path], None] = check_catalog) -> "Catalog":
        """Opens a catalog.

        Args:
            index: folder of the index.
            check: checks the content; see `check_catalog`.

        Raises:
            GlamError: there is no catalog, the file is not a sound catalog, or another version of glam wrote it.
        """
        check_folder(index)
        connection, version = open_any_version(index)
        try:
            if version not in READABLE:
                raise GlamError(
                    f"{index} has schema version {version}; this version of glam reads {SCHEMA_VERSION}. "
                    f"{'Upgrade glam.' if version > SCHEMA_VERSION else 'Build the index again.'}"
                )
            catalog = cls(connection)
            with catalog.snapshot():
                check(connection, index)
                _ = catalog.config
        except ValueError as error:
            connection.close()
            raise damaged_catalog(index, str(error)) from error
        except sqlite3.DatabaseError as error:
            connection.close()
            raise catalog_error(index, error) from error
        except BaseException:
            connection.close()
            raise
        return catalog

    def another(self, index: Path) -> "Catalog":
        """Another connection to the catalog, which is not checked again. A long query on it delays no other.

        Args:
            index: folder of the index.
        """
        return Catalog(connect(index / CATALOG, "rw"))

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    @contextmanager
    def exclusive(self, wait: float = BUSY_SECONDS) -> Iterator[None]:
        """Keeps other writers out; readers are not affected. Inside a transaction, it is part of that one.

        Args:
            wait: seconds to wait for another process or thread that changes the catalog.

        Raises:
            InUseError: it has not finished by then.
        """
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute(f"PRAGMA busy_timeout = {round(wait * 1000)}")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise InUseError(
                "Another process changes the catalog of the index. Wait until it has finished, and try again."
            ) from error
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        try:
            self.before_change()
            yield
        finally:
            self.connection.rollback()  # nothing, if it was committed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: the changes inside are committed together, or rolled back if an exception is raised.

        Raises:
            InUseError: another process or thread is changing the catalog.
        """
        with self.exclusive():
            yield
            self.connection.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A read transaction: all queries inside see the same state of the catalog, and no writer commits meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    @property
    def version(self) -> int:
        """Current schema version, which a writer may have upgraded since the catalog was opened."""
        return self._number("PRAGMA user_version")

    @property
    def config(self) -> IndexConfig:
        """The configuration of the index.

        Raises:
            ValueError: it is damaged; `open` has checked it.
        """
        texts = self.connection.execute("SELECT description FROM about LIMIT 2").fetchall()
        if len(texts) != 1:
            raise ValueError("it does not have one configuration")
        return config_from_json(texts[0][0])

    def __len__(self) -> int:
        return self._number("SELECT coalesce(sum(rows), 0) FROM segments") - self.removed_count()

    def removed(self) -> ImageIds:
        """Ids, (n,) int64, of the removed images whose descriptors are still on disk."""
        found = self.connection.execute("SELECT id FROM images WHERE state = 'removed'")
        return np.array([image_id for (image_id,) in found], dtype=np.int64)

    def removed_count(self) -> int:
        """Number of removed images whose descriptors are still on disk."""
        return self._number("SELECT count(*) FROM images WHERE state = 'removed'")

    def landmark_count(self) -> int:
        """Number of distinct landmarks among the present images."""
        return self._number("SELECT count(DISTINCT label) FROM images WHERE label != '' AND state = 'present'")

    def entries(self, image_ids: Sequence[int]) -> dict[int, Entry]:
        """Entries of images.

        Args:
            image_ids: ids of the images.

        Returns:
            The entries by image id, without those of images that no longer exist.
        """
        found = self.connection.execute(
            "SELECT id, path, label, width, height, metadata FROM images WHERE id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(image_ids))],
        )
        return {
            image_id: Entry(image_id, path, landmark, width, height, json.loads(metadata))
            for image_id, path, landmark, width, height, metadata in found
        }

    def present_rows(self) -> tuple[ImageIds, SegmentNumbers, Rows]:
        """Locations of the descriptors of all present images.

        Returns:
            Image ids (n,) in ascending order, the segment (n,) that holds the descriptor of each image, and the row
            (n,) in that segment.
        """
        batches = self.batches()
        if not batches:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        image_ids = np.concatenate([batch.image_ids for batch in batches])
        segments = np.concatenate([np.full(len(batch.image_ids), batch.segment) for batch in batches])
        rows = np.concatenate([batch.first + np.arange(len(batch.image_ids)) for batch in batches])
        order = np.argsort(image_ids, kind="stable")
        order = order[~np.isin(image_ids[order], self.removed(), kind="sort")]
        return image_ids[order], segments[order], rows[order]

    def segments(self) -> dict[int, int]:
        """Number of rows of each segment, by the number of the segment."""
        return dict(self.connection.execute("SELECT number, rows FROM segments ORDER BY number"))

    def batches(self) -> list[DescriptorBatch]:
        """All batches, ordered by segment and first row."""
        found = self.connection.execute("SELECT segment, first, images, digest FROM batches ORDER BY segment, first")
        return [
            DescriptorBatch(segment, first, np.frombuffer(image_ids, dtype="<i8"), digest)
            for segment, first, image_ids, digest in found
        ]

    def stored_images(self) -> Iterator[StoredImage]:
        """All images including removed ones, ordered by id."""
        found = self.connection.execute(
            "SELECT id, path, label, metadata, hash, bytes, modified, state FROM images ORDER BY id"
        )
        return (StoredImage(row[0], FileFacts(*row[1:7]), row[7] == "present") for row in found)

    def facts(self, image_id: int) -> FileFacts | None:
        """Facts of the file of the image with this id; None if there is no such image."""
        row = self.connection.execute(
            "SELECT path, label, metadata, hash, bytes, modified FROM images WHERE id = ?", [image_id]
        ).fetchone()
        return None if row is None else FileFacts(*row)

    def paths(self) -> dict[str, int]:
        """Id of each present image, by its path."""
        return dict(self.connection.execute("SELECT path, id FROM images WHERE state = 'present'"))

    def ids_below(self, path: str) -> list[int]:
        """Ids of the present images at a path and below it.

        Args:
            path: path of an image or a folder, relative to the root of the index, with forward slashes.
        """
        after = chr(ord("/") + 1)
        found = self.connection.execute(
            "SELECT id FROM images WHERE state = 'present' AND path = ?1 "
            "UNION SELECT id FROM images WHERE state = 'present' AND path > ?1 || '/' AND path < ?1 || ?2",
            [path, after],
        )
        return [image_id for (image_id,) in found]

    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of each file that could not be read, ordered by path."""
        return list(self.connection.execute("SELECT path, reason FROM unreadable ORDER BY path"))

    # The methods below change the catalog. Call them inside `transaction`.

    def next_segment(self) -> int:
        """A segment number that has never been used."""
        return 1 + self._number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'segments'), 0)")

    def add_batch(self, batch: DescriptorBatch) -> None:
        """Records a batch of descriptors, and adds its rows to its segment."""
        count = len(batch.image_ids)
        self.connection.execute(
            "INSERT INTO segments VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET rows = rows + ?2",
            [batch.segment, count],
        )
        image_ids = np.ascontiguousarray(batch.image_ids, dtype="<i8").tobytes()
        self.connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?)", [batch.segment, batch.first, count, image_ids, batch.digest]
        )

    def add_images(self, images: Sequence[NewImage]) -> ImageIds:
        """Adds images; each replaces the present image at its path, if there is one.

        Args:
            images: images with distinct paths.

        Returns:
            The ids of the new images, (n,) int64, in the order of ``images``.
        """
        self._remove_at_paths(image.facts.path for image in images)
        first = 1 + self._number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'images'), -1)")
        self.connection.executemany(
            "INSERT INTO images (id, path, label, metadata, hash, bytes, modified, width, height, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'present')",
            ((image_id, *image.facts, image.width, image.height) for image_id, image in enumerate(images, first)),
        )
        return np.arange(first, first + len(images))

    def add_unreadable(self, files: Sequence[tuple[str, str]]) -> None:
        """Records files that could not be read, and removes the present images at their paths.

        Args:
            files: path and reason of each file.
        """
        self._remove_at_paths(path for path, _ in files)
        self.connection.executemany("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", files)

    def remove(self, image_ids: Iterable[int]) -> None:
        """Marks images as removed. Their descriptors stay on disk until the index is compacted.

        Args:
            image_ids: ids of the images.
        """
        marked = ([image_id] for image_id in image_ids)
        self.connection.executemany("UPDATE images SET state = 'removed' WHERE id = ?", marked)

    def update_files(self, files: Sequence[tuple[int, FileFacts]]) -> None:
        """Updates the facts of images and marks them as present. Other images at their new paths are removed.

        Images may exchange their paths.

        Args:
            files: image id and new file facts of each image.
        """
        self.remove(image_id for image_id, _ in files)
        self._remove_at_paths(facts.path for _, facts in files)
        self.connection.executemany(
            "UPDATE images SET path = ?, label = ?, metadata = ?, hash = ?, bytes = ?, modified = ?, "
            "state = 'present' WHERE id = ?",
            ((*facts, image_id) for image_id, facts in files),
        )

    def forget_unreadable(self, paths: Iterable[str]) -> None:
        """Deletes files from the list of unreadable files.

        Args:
            paths: paths of the files.
        """
        self.connection.executemany("DELETE FROM unreadable WHERE path = ?", ((path,) for path in paths))

    def forget_removed(self, segments: Iterable[int]) -> None:
        """Deletes the removed images from the catalog, and segments with their batches.

        Args:
            segments: numbers of the segments to delete.
        """
        self.connection.execute("DELETE FROM images WHERE state = 'removed'")
        for table, column in (("batches", "segment"), ("segments", "number")):
            self.connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", ([number] for number in segments))

    def set_config(self, config: IndexConfig) -> None:
        """Replaces the configuration of the index."""
        self.connection.execute("UPDATE about SET description = ?", [config_to_json(config)])

    def _remove_at_paths(self, paths: Iterable[str]) -> None:
        """Marks present images at these paths as removed, and deletes the paths from the list of unreadable files."""
        gone = [(path,) for path in paths]
        self.connection.executemany("UPDATE images SET state = 'removed' WHERE path = ? AND state = 'present'", gone)
        self.connection.executemany("DELETE FROM unreadable WHERE path = ?", gone)

    def _number(self, query: str) -> int:
        (number,) = self.connection.execute(query).fetchone()
        return int(number)


def _nothing() -> None:
    """The default of `Catalog.before_change`."""
