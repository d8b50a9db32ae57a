"""What the folder and the catalog of an index must prove before anything is read from them or built on them.

    Catalog.open --> check_folder: files and folders where they are expected, no links
                 --> check_catalog: its digest, values that are possible and agree with each other

An index may come from elsewhere, so the checks assume nothing about the content. `glam.index.storage.segment_check`
checks the descriptors.
"""

import json
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glam.errors import GlamError
from glam.index.storage.checksums import CHECKSUMS, read_checksums
from glam.index.storage.lock import LOCK
from glam.index.storage.schema import CATALOG, catalog_digest
from glam.index.storage.segments import FOLDER
from glam.strict_json import parse_json

SEARCH_FOLDER, RERANK_FOLDER = "search", "rerank"
"""The folders of `glam.index.ann_cache` and of `glam.index.rerank_store`."""

SUBFOLDERS = (FOLDER, SEARCH_FOLDER, RERANK_FOLDER)
"""The folders in an index. They hold files only."""

OWN_FILES = frozenset((LOCK, CATALOG, f"{CATALOG}-journal", CHECKSUMS))
"""Names of the files directly in the folder of an index."""

DIGEST = "length(digest) = 32 AND digest NOT GLOB '*[^0-9a-f]*'"

ROWS = {
    "about": "typeof(description) = 'text'",
    "segments": "number > 0 AND typeof(rows) = 'integer' AND rows > 0",
    "batches": "typeof(segment) = 'integer' AND typeof(first) = 'integer' AND typeof(rows) = 'integer' AND rows > 0 "
    f"AND typeof(images) = 'blob' AND length(images) = 8 * rows AND typeof(digest) = 'text' AND {DIGEST}",
    "unreadable": "typeof(path) = 'text' AND typeof(reason) = 'text'",
    "kept": "number > 0 AND typeof(kind) = 'text' AND kind NOT GLOB '*[^a-z]*' AND typeof(recipe) = 'text' "
    f"AND typeof(images) = 'blob' AND length(images) % 8 = 0 AND typeof(digest) = 'text' AND {DIGEST}",
}
"""Condition that each row of a small table meets."""

IMAGE = (
    "id >= 0 AND typeof(path) = 'text' AND typeof(label) = 'text' AND typeof(hash) = 'text' "
    "AND typeof(metadata) = 'text' AND typeof(width) = 'integer' AND typeof(height) = 'integer' "
    "AND typeof(bytes) = 'integer' AND typeof(modified) = 'integer' AND state IN ('present', 'removed') "
    "AND metadata GLOB '{*' AND json_valid(metadata)"
)
"""Condition that each row of the table `images` meets."""

DEEPEST = 100
"""Deepest nesting of metadata (arbitrary): Python fails at a depth that depends on its own stack."""

EXPONENT = re.compile(r"[eE](?<=\d.)", re.ASCII)
"""Part of a number with an exponent, which may be too large for a float."""

NUMBERED = {"segments": "number", "images": "id", "kept": "number"}
"""Tables whose numbers are never reused, and the column of the number."""

IMAGES_AT_A_TIME = 8192
"""Rows of the table `images` whose texts are decoded at a time (arbitrary): about a megabyte."""


def folder_problems(index: Path) -> Iterator[tuple[Path, str]]:
    """Looks for entries that the folder of an index must not have.

    Args:
        index: folder of the index.

    Yields:
        Path of each such entry, and what is wrong with it.
    """
    for folder in (index, *(index / name for name in SUBFOLDERS)):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.is_symlink():
                yield path, "a link, and an index holds no links"
            elif folder == index and entry.name in SUBFOLDERS:
                if not entry.is_dir():
                    yield path, "not a folder"
            elif entry.is_dir():
                if folder != index or entry.name in OWN_FILES:
                    yield path, "a folder where an index holds files only"
            elif not entry.is_file() and os.path.lexists(path):  # a writer may have just deleted it
                yield path, "neither a file nor a folder"


def check_folder(index: Path) -> None:
    """Checks that an index holds files and folders where they are expected, and no links.

    Args:
        index: folder of the index.

    Raises:
        GlamError: it does not.
    """
    for path, what in folder_problems(index):
        raise GlamError(f"{path} is {what}. Move it away, or restore a backup of the index.")


def check_catalog(connection: sqlite3.Connection, index: Path) -> None:
    """Checks a catalog against its digest, and each of its rows, because whoever made the index made the digest too.

    Args:
        connection: connection to a catalog whose tables are those of its version, in a transaction.
        index: folder of the index.

    Raises:
        ValueError: the database is damaged, a value is impossible, or two contradict each other.
        GlamError: the catalog does not match its digest.
        sqlite3.DatabaseError: the database is damaged.
    """
    checksums = read_checksums(index)
    if checksums is not None and checksums.get(CATALOG) != catalog_digest(connection, index):
        raise GlamError(
            f"{index / CATALOG} does not match its checksum. Run `glam index verify {index}`; then restore a backup, "
            "or build the index again."
        )
    check_content(connection)


def check_content(connection: sqlite3.Connection) -> None:
    """Checks the database and each row of a catalog.

    Args:
        connection: connection to the catalog.

    Raises:
        ValueError: the database is damaged, a value is impossible, or two contradict each other.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise ValueError(" ".join(found.split()))
    _check_images(connection)
    _check_tables(connection)


def _check_tables(connection: sqlite3.Connection) -> None:
    """Checks each row of the small tables, and that they agree with each other and with the images."""
    existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in ROWS.keys() & existing:
        if connection.execute(f"SELECT 1 FROM {table} WHERE ({ROWS[table]}) IS NOT TRUE LIMIT 1").fetchone():
            raise ValueError(f"a value in the table {table} is impossible")
    for table in NUMBERED.keys() & existing:
        query = (
            f"SELECT count(*), min(typeof(seq) = 'integer' AND seq < 1 << 62 AND seq >= coalesce((SELECT max("
            f"{NUMBERED[table]}) FROM {table}), 0)) FROM sqlite_sequence WHERE name = ?"
        )
        counters, sound = connection.execute(query, [table]).fetchone()
        if counters > 1 or (counters and not sound) or (not counters and _has_rows(connection, table)):
            raise ValueError(f"the counter of the table {table} is impossible")
    covered: dict[int, int] = defaultdict(int)
    parts = [np.empty(0, np.int64)]
    for segment, first, rows, images in connection.execute(
        "SELECT segment, first, rows, images FROM batches ORDER BY segment, first"
    ):
        if first != covered[segment]:
            raise ValueError(f"segment {segment} has rows in no batch or in two batches")
        covered[segment] += rows
        parts.append(np.frombuffer(images, dtype="<i8"))
    if covered != dict(connection.execute("SELECT number, rows FROM segments")):
        raise ValueError("the numbers of rows of the segments and of their batches differ")
    images = connection.execute("SELECT id FROM images ORDER BY id")
    stored_ids = np.fromiter((image_id for (image_id,) in images), np.int64)
    if not np.array_equal(np.sort(np.concatenate(parts)), stored_ids):
        raise ValueError("the images do not match the descriptors one to one")


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def _check_images(connection: sqlite3.Connection) -> None:
    """Checks each row of the table `images`; decoding its texts raises an error if they are not UTF-8."""
    found = connection.execute(
        f"SELECT sum(({IMAGE}) IS NOT TRUE), group_concat(path || label || hash, ''), group_concat(metadata), "
        "max(length(metadata)) FROM images GROUP BY id / ?",
        [IMAGES_AT_A_TIME],
    )
    for wrong, texts, metadata, longest in found:
        if wrong or "\0" in texts or "\0" in metadata:
            raise ValueError("a value in the table images is impossible")
        if longest > 2 * DEEPEST or "\\" in metadata or EXPONENT.search(metadata):  # the others need no parsing
            _check_metadata(f"[{metadata}]")


def _check_metadata(text: str) -> None:
    """Checks that metadata of several images, a JSON list, can be read, stored again, and sent.

    Raises:
        ValueError: it has a number that is too large or a surrogate without its pair, or is nested too deeply.
    """
    try:
        values = parse_json(text)
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
        depth = _depth(values)
    except (ValueError, RecursionError) as error:
        raise ValueError("metadata in the table images is impossible") from error
    if depth > DEEPEST:
        raise ValueError("metadata in the table images is nested too deeply")


def _depth(value: object) -> int:
    """How deeply lists and objects are nested in a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
