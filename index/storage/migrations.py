"""Migrations of catalogs with an older schema version.

    Index.open, info, verify --> open_catalog --upgrade, from version 1 only--> Catalog      Writer --> upgrade

Version 1 had a single file of descriptors, in which row i belonged to the image with id i, and recorded no sizes,
times, or hashes of image files. Version 2 stored no data for re-ranking. It is readable without a migration, so such an
index opens even on a read-only disk.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from glam.atomic_file import flush, make_folder
from glam.errors import GlamError
from glam.index.storage.catalog import Catalog
from glam.index.storage.checks import check_content, check_folder
from glam.index.storage.checksums import delete_checksums
from glam.index.storage.lock import write_lock
from glam.index.storage.records import DescriptorBatch
from glam.index.storage.schema import SCHEMA_VERSION, STORE_FILES, create_tables, damaged_catalog, open_any_version
from glam.index.storage.segments import digest_descriptors, missing, open_segment, segment_file

DESCRIPTORS_1 = "descriptors.f32"
"""File of descriptors in version 1."""

BATCH_ROWS = 4096
"""Rows per batch in the migrated catalog (arbitrary)."""


def open_catalog(index: Path) -> Catalog:
    """Opens the catalog of an index, and upgrades it first if it is of version 1.

    Args:
        index: folder of the index.

    Raises:
        GlamError: there is no index, its catalog is damaged or of a newer version, or it cannot be upgraded.
    """
    check_folder(index)
    connection, version = open_any_version(index)
    connection.close()
    if version == 1:
        try:
            with write_lock(index):
                upgrade(index)
        except (OSError, sqlite3.OperationalError) as error:
            raise GlamError(
                f"{index} has an old format and could not be upgraded ({error}). Make the folder writable, or build "
                "the index again."
            ) from error
    return Catalog.open(index)


def upgrade(index: Path) -> None:
    """Upgrades an index to the current schema version. After a kill, the next call completes the upgrade.

    Args:
        index: folder of the index; the caller holds its lock for writing.

    Raises:
        GlamError: there is no index, or it is damaged.
    """
    connection, version = open_any_version(index)
    connection.close()
    if version == 1:
        _from_1(index)
    elif version == 2:
        _from_2(index)
    (index / DESCRIPTORS_1).unlink(missing_ok=True)


def _from_1(index: Path) -> None:
    connection, _ = open_any_version(index)
    try:
        _rewrite_1(index, Catalog(connection))
    except ValueError as error:
        raise damaged_catalog(index, str(error)) from error
    finally:
        connection.close()


def _rewrite_1(index: Path, catalog: Catalog) -> None:
    old, segment = index / DESCRIPTORS_1, segment_file(index, 1)
    make_folder(segment.parent, on_disk=True)
    if old.exists():
        old.replace(segment)
        flush(segment.parent)
        flush(index)
    database = catalog.connection
    database.execute("PRAGMA journal_mode = DELETE")
    (count,) = database.execute("SELECT count(*) FROM images").fetchone()
    if count and not segment.exists():
        raise missing(old)
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
        check_content(database)


def _from_2(index: Path) -> None:
    with closing(Catalog.open(index)) as catalog:
        delete_checksums(index)
        with catalog.transaction():
            catalog.connection.execute(STORE_FILES)
            catalog.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
