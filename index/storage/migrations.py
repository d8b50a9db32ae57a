"""Catalogs of older versions, made into those of this one.

    Index.open, info, verify --> open_catalog --upgrade, if it is of version 1--> Catalog      Writer --> upgrade

Version 1 had one file of descriptors, in which row i belonged to the image with id i, and knew nothing of the files.
Version 2 kept nothing for reranking; it is read as it is, so that it opens also where nothing may be written.
"""

import sqlite3
from pathlib import Path

import numpy as np

from glam.atomic_file import flush
from glam.errors import GlamError
from glam.index.storage.catalog import Catalog, DescriptorBatch
from glam.index.storage.checksums import delete_checksums
from glam.index.storage.lock import write_lock
from glam.index.storage.schema import KEPT, SCHEMA_VERSION, create_tables, open_any_version
from glam.index.storage.segments import digest_descriptors, open_segment, segment_file

DESCRIPTORS_1 = "descriptors.f32"
BATCH_ROWS = 4096


def open_catalog(index: Path) -> Catalog:
    """The catalog of the index in the folder ``index``, brought to this version first if that has to be.

    Raises:
        GlamError: there is none, it is damaged or newer, or it is older and cannot be changed now.
    """
    connection, version = open_any_version(index)
    connection.close()
    if version == 1:
        try:
            with write_lock(index):
                upgrade(index)
        except (OSError, sqlite3.OperationalError) as error:
            raise GlamError(f"{index}: of an older version, and it cannot be brought to this one: {error}") from error
    return Catalog.open(index)


def upgrade(index: Path) -> None:
    """Brings the index in the folder ``index`` to this version; the caller holds its lock. Killed, it is done again."""
    connection, version = open_any_version(index)
    try:
        if version == 1:
            _from_1(index, Catalog(connection))
        elif version == 2:
            _from_2(index, Catalog(connection))
    finally:
        connection.close()
    (index / DESCRIPTORS_1).unlink(missing_ok=True)


def _from_1(index: Path, catalog: Catalog) -> None:
    if catalog.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'segments'").fetchone():
        raise GlamError(f"{index}: its catalog says version 1 and is not; the index is damaged")
    old, segment = index / DESCRIPTORS_1, segment_file(index, 1)
    segment.parent.mkdir(exist_ok=True)
    if old.exists():
        old.replace(segment)
        flush(segment.parent)
        flush(index)
    database = catalog.connection
    database.execute("PRAGMA journal_mode = DELETE")
    (count,) = database.execute("SELECT count(*) FROM images").fetchone()
    if count and not segment.exists():
        raise GlamError(f"{old}: not there; the index is damaged")
    descriptors = open_segment(segment, count, catalog.config.dim)
    described = segment.stat().st_mtime_ns if count else 0
    with catalog.transaction():
        for table in ("about", "images", "unreadable"):
            database.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
        create_tables(database)
        for table in ("about", "unreadable"):
            database.execute(f"INSERT INTO {table} SELECT * FROM {table}_1")
        database.execute(
            "INSERT INTO images SELECT id, path, label, width, height, '', -1, ?, '{}', 'present' FROM images_1",
            [described],
        )
        for first in range(0, count, BATCH_ROWS):
            block = descriptors[first : first + BATCH_ROWS]
            catalog.add_batch(
                DescriptorBatch(1, first, np.arange(first, first + len(block)), digest_descriptors(block))
            )
        for table in ("about", "images", "unreadable"):
            database.execute(f"DROP TABLE {table}_1")


def _from_2(index: Path, catalog: Catalog) -> None:
    delete_checksums(index)
    with catalog.transaction():
        catalog.connection.execute(KEPT)
        catalog.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
