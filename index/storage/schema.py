"""The tables of the catalog, and connections to its SQLite database.

    Catalog, migrations --> connect, open_any_version, create_tables --> SQLite

The database is a single file with a rollback journal. The journal exists only during a transaction, and readers wait
only while a batch is being committed.
"""

import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from glam.errors import GlamError
from glam.index.storage.checksums import digest

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

SCHEMA_1 = """
CREATE TABLE about (description TEXT NOT NULL);
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL
);
CREATE TABLE unreadable (path TEXT PRIMARY KEY, reason TEXT NOT NULL);
"""
"""Tables of version 1, which `glam.index.storage.migrations` upgrades."""

SCHEMAS = {1: [SCHEMA_1], 2: [SCHEMA], 3: [SCHEMA, STORE_FILES]}
"""SQL that creates the tables, by schema version."""

TOKENS = re.compile(r"--[^\n]*|\s+|'[^']*'|\w+|.", re.DOTALL)
"""Tokens of an SQL statement: comment, white space, string, word, any other character."""

BUSY_SECONDS = 60
"""How long a reader waits for a commit, and a commit for readers (arbitrary)."""


TEMPORARY = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    )
)
"""Errors of SQLite that do not come from the content of the catalog."""


class NoIndexError(GlamError):
    """A folder holds no index, or only the leftovers of a build that was killed before its first batch."""


class DamagedCatalogError(GlamError):
    """A catalog is not sound; `damaged_catalog` creates the error.

    Args:
        message: the message.
        what: what is wrong with the catalog.

    Attributes:
        what: what is wrong with the catalog.
    """

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


def damaged_catalog(index: Path, what: str) -> DamagedCatalogError:
    """The error for a catalog that is not sound.

    Args:
        index: folder of the index.
        what: what is wrong with the catalog.
    """
    return DamagedCatalogError(
        f"{index / CATALOG} is damaged: {what}. Run `glam index verify {index}`; then restore a backup, or build the "
        "index again.",
        what,
    )


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
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA cache_spill = OFF")  # so that readers wait only for the commit, not the transaction
    except BaseException:
        connection.close()
        raise
    return connection


def open_any_version(index: Path) -> tuple[sqlite3.Connection, int]:
    """Connects to the catalog of an index, whatever its schema version.

    Args:
        index: folder of the index.

    Returns:
        The connection and the schema version.

    Raises:
        NoIndexError: there is no index.
        GlamError: the file is not a catalog, or its tables are not those of its version.
    """
    file = index / CATALOG
    if not file.is_file():
        raise NoIndexError(f"{index}: no index there. Check the path, or create an index with `glam index build`.")
    try:
        connection = connect(file, "rw")
    except sqlite3.DatabaseError as error:
        raise catalog_error(index, error) from error
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        found = _definitions(connection)
        if not found:
            raise NoIndexError(f"{index}: no index there, only an unfinished build. Run `glam index build` again.")
        if version in SCHEMAS and found != _expected(version):
            raise damaged_catalog(index, "its tables are not those of its version")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise catalog_error(index, error) from error
    except BaseException:
        connection.close()
        raise
    return connection, int(version)


def catalog_digest(connection: sqlite3.Connection, index: Path) -> str:
    """Digest of the file of the catalog; '' if SQLite does not use all of the file.

    The file is read through SQLite. If this process opened and closed it itself, the operating system would drop the
    locks that SQLite holds on it for other threads (https://sqlite.org/howtocorrupt.html, section 2.2).

    Args:
        connection: connection to the catalog, in a transaction that has not changed it.
        index: folder of the index.
    """
    content = connection.serialize()
    return digest(content) if len(content) == (index / CATALOG).stat().st_size else ""


def catalog_error(index: Path, error: sqlite3.Error) -> GlamError:
    """The error for a catalog that SQLite cannot read.

    Args:
        index: folder of the index.
        error: what SQLite raised.
    """
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in TEMPORARY:
        return GlamError(
            f"{index / CATALOG} cannot be used now ({error}). Check its permissions and the disk, and that no other "
            "program has it open; then try again."
        )
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
        return GlamError(
            f"{index / CATALOG} is not the catalog of an index ({error}). Run `glam index verify {index}`; then "
            "restore a backup, or build the index again."
        )
    return damaged_catalog(index, str(error))


def _definitions(connection: sqlite3.Connection) -> set[tuple[str, str, str, str | None]]:
    """Type, name, table, and SQL of each table, index, view, and trigger; the SQL without comments and white space."""
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return {(kind, name, table, None if sql is None else _normal(str(sql))) for kind, name, table, sql in found}


def _normal(sql: str) -> str:
    tokens = TOKENS.findall(sql)
    return " ".join(token for token in tokens if not token.startswith("--") and not token.isspace())


@cache
def _expected(version: int) -> set[tuple[str, str, str, str | None]]:
    """What `_definitions` returns for a sound catalog."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statements in SCHEMAS[version]:
            connection.executescript(statements)
        return _definitions(connection)


def create_tables(connection: sqlite3.Connection) -> None:
    """Creates the tables of the current version, inside the caller's transaction."""
    for statement in [*SCHEMA.strip().split(";\n"), STORE_FILES]:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
