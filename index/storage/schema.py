"""The tables of the catalog, and connections to its SQLite database.

    Catalog, migrations --> connect, open_any_version, create_tables --> SQLite

The database is a single file with a rollback journal. The journal exists only during a transaction, and readers wait
only while a batch is being committed.
"""

import sqlite3
from pathlib import Path

from glam.errors import GlamError

CATALOG = "catalogue.sqlite"
"""Name of the database; the spelling is that of schema version 1."""

SCHEMA_VERSION = 3

READABLE = (2, SCHEMA_VERSION)
"""Versions that a reader can read without a migration. A writer upgrades older ones first."""

STORE_FILES_SINCE = 3
"""The version that added the table `kept`."""

STORE_FILES = """
CREATE TABLE kept (                    -- files with data for re-ranking
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: a reader may still have the old file
    kind TEXT NOT NULL,                -- kind of data, and suffix of the file
    recipe TEXT NOT NULL,              -- how it was computed; a file with another recipe is ignored
    images BLOB NOT NULL,              -- ids of its images, 64 bits, little-endian
    digest TEXT NOT NULL               -- BLAKE2b-128 of the file
)"""
"""Table of the files in the folder `rerank/`; see `glam.index.rerank_store.files`."""

SCHEMA = """
CREATE TABLE about (description TEXT NOT NULL);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: a reader may still have the old file
    rows INTEGER NOT NULL
);
CREATE TABLE batches (                 -- rows that were written together
    segment INTEGER NOT NULL REFERENCES segments (number),
    first INTEGER NOT NULL,            -- first row in the segment
    rows INTEGER NOT NULL,
    images BLOB NOT NULL,              -- id of the image of each row, 64 bits, little-endian
    digest TEXT NOT NULL,              -- BLAKE2b-128 of the rows
    PRIMARY KEY (segment, first)
);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused, from 0
    path TEXT NOT NULL,                -- relative to the root, forward slashes
    label TEXT NOT NULL,               -- landmark; '' if unknown
    width INTEGER NOT NULL,            -- pixels of the upright image
    height INTEGER NOT NULL,
    hash TEXT NOT NULL,                -- BLAKE2b-128 of the file; '' if migrated from version 1
    bytes INTEGER NOT NULL,            -- size of the file; -1 if migrated from version 1
    modified INTEGER NOT NULL,         -- modification time in nanoseconds; time of the descriptors if from version 1
    metadata TEXT NOT NULL,            -- JSON object
    state TEXT NOT NULL                -- 'present' or 'removed'
);
CREATE UNIQUE INDEX present_paths ON images (path) WHERE state = 'present';
CREATE INDEX removed ON images (id) WHERE state = 'removed';
CREATE TABLE unreadable (
    path TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
"""

BUSY_SECONDS = 60
"""How long a reader waits for a commit, and a commit for readers (arbitrary)."""


class NoIndexError(GlamError):
    """A folder holds no index, or only the leftovers of a build that was killed before its first batch."""


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Connects to the database. Without write permission the connection can only read.

    Args:
        file: path of the database.
        mode: mode of SQLite: "rw" to open it, "rwc" to create it if it does not exist.
    """
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA cache_spill = OFF")  # so that readers wait only for the commit, not the transaction
    return connection


def open_any_version(index: Path) -> tuple[sqlite3.Connection, int]:
    """Connects to the catalog of an index, whatever its schema version.

    Args:
        index: folder of the index.

    Returns:
        The connection and the schema version.

    Raises:
        NoIndexError: there is no index.
        GlamError: the file is not a catalog.
    """
    file = index / CATALOG
    if not file.is_file():
        raise NoIndexError(f"{index}: no index there. Check the path, or create an index with `glam index build`.")
    try:
        connection = connect(file, "rw")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise GlamError(
            f"{file} is not the catalog of an index ({error}). Restore a backup, or build the index again."
        ) from error
    if not tables:
        connection.close()
        raise NoIndexError(f"{index}: no index there, only an unfinished build. Run `glam index build` again.")
    return connection, int(version)


def create_tables(connection: sqlite3.Connection) -> None:
    """Creates the tables of the current version, inside the caller's transaction."""
    for statement in [*SCHEMA.strip().split(";\n"), STORE_FILES]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
