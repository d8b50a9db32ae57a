"""The tables of the catalog, and opening the SQLite database that holds them.

    Catalog, migration --> connect, open_any_version, create_tables --> SQLite

It is kept in one file with a rollback journal: at rest there is nothing beside it, and readers wait only while a batch
is being committed.
"""

import sqlite3
from pathlib import Path

from glam.errors import GlamError

CATALOG = "catalogue.sqlite"

SCHEMA_VERSION = 3

READABLE = (2, SCHEMA_VERSION)
"""Versions that a reader takes as they are; a writer brings an older one to this first."""

KEPT_SINCE = 3
"""The version that brought what follows."""

KEPT = """
CREATE TABLE kept (                    -- files for reranking, each of the images that it names
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: a reader may still have the old file
    kind TEXT NOT NULL,                -- what is in it, and the suffix of the file
    recipe TEXT NOT NULL,              -- how it was made; what was made otherwise is not used
    images BLOB NOT NULL,              -- their ids, 64 bits, little-endian
    digest TEXT NOT NULL               -- BLAKE2b-128 of the file
)"""

SCHEMA = """
CREATE TABLE about (description TEXT NOT NULL);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: a reader may still have the old file
    rows INTEGER NOT NULL
);
CREATE TABLE batches (                 -- rows that were written together
    segment INTEGER NOT NULL REFERENCES segments (number),
    first INTEGER NOT NULL,            -- row of the segment
    rows INTEGER NOT NULL,
    images BLOB NOT NULL,              -- id of each row's image, 64 bits, little-endian
    digest TEXT NOT NULL,              -- BLAKE2b-128 of the rows
    PRIMARY KEY (segment, first)
);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, from 0
    path TEXT NOT NULL,                -- relative to the root, forward slashes
    label TEXT NOT NULL,               -- landmark, '' where it is not known
    width INTEGER NOT NULL,            -- pixels, upright
    height INTEGER NOT NULL,
    hash TEXT NOT NULL,                -- BLAKE2b-128 of the file; '' where a version 1 did not take it
    bytes INTEGER NOT NULL,            -- of the file; -1 as above
    modified INTEGER NOT NULL,         -- time of the file in nanoseconds; as above: the last at which it was described
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
"""How long a reader waits for a commit, and a commit for readers."""


class NoIndexError(GlamError):
    """There is no index in a folder, or only the beginnings of one that was never made."""


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Opens a database in SQLite's mode "rw", or "rwc" to make it; without permission to write, for reading alone."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA cache_spill = OFF")  # readers are kept out while a transaction is committed, not before
    return connection


def open_any_version(index: Path) -> tuple[sqlite3.Connection, int]:
    """The database of the index in the folder ``index``, and the version of its schema.

    Raises:
        GlamError: there is none, or the file is something else.
    """
    file = index / CATALOG
    if not file.is_file():
        raise NoIndexError(f"{index}: no index there")
    try:
        connection = connect(file, "rw")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise GlamError(f"{file}: not an index's catalog ({error})") from error
    if not tables:
        connection.close()
        raise NoIndexError(f"{index}: no index there; the build that was to make it ended before it began")
    return connection, int(version)


def create_tables(connection: sqlite3.Connection) -> None:
    """Makes the tables of this version, inside the caller's transaction."""
    for statement in [*SCHEMA.strip().split(";\n"), KEPT]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
