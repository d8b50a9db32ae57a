"""Facets: the columns that filter expressions can use, with their values and counts.

catalog --one pass per column, one over all metadata--> table of values and counts --> schemas.Column
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from glam.app.service import schemas
from glam.index.storage.filters import COLUMNS, NAMES, value_of
from glam.index.storage.migrations import open_catalog

MAX_VALUES = 100
"""Values of a column in an answer; arbitrary."""

MAX_COLUMNS = 100
"""Columns in an answer; arbitrary."""

UNLISTED = frozenset({"image_id", "path"})
"""Columns that are left out, because each image has another value."""


def facets(index: Path) -> list[schemas.Column]:
    """List the columns of an index that have a value in at least one image.

    Args:
        index: folder of the index.

    Raises:
        GlamError: the folder has no index.
    """
    catalog = open_catalog(index)
    try:
        with catalog.snapshot():
            _count_values(catalog.connection)
            return list(_columns(catalog.connection))
    finally:
        catalog.close()


def _count_values(connection: sqlite3.Connection) -> None:
    """Create the temporary table ``counts``: how many images have each value of each column and metadata key."""
    connection.execute("CREATE TEMP TABLE counts (name TEXT, value, count INTEGER)")
    for column in COLUMNS:
        if column not in UNLISTED:
            connection.execute(
                f"INSERT INTO counts SELECT ?, {value_of(column)}, count(*) FROM images"
                f" WHERE state = 'present' AND {value_of(column)} != '' GROUP BY 2",
                [column],
            )
    connection.execute(
        "INSERT INTO counts SELECT entries.key, entries.value, count(*)"
        " FROM images, json_each(images.metadata) AS entries"
        " WHERE images.state = 'present' AND entries.value != '' AND instr(entries.key, '\"') = 0"
        f" AND lower(entries.key) NOT IN ({', '.join('?' * len(NAMES))}) GROUP BY 1, 2",
        sorted(NAMES),
    )
    connection.execute("CREATE INDEX temp.names ON counts (name)")


def _columns(connection: sqlite3.Connection) -> Iterator[schemas.Column]:
    """The first `MAX_COLUMNS` columns in the table ``counts``: those of the catalog, then metadata keys by name."""
    found = connection.execute(
        "SELECT name, sum(typeof(value) = 'text'), count(*), min(value), max(value) FROM counts GROUP BY name"
    ).fetchall()
    order = {name: number for number, name in enumerate(COLUMNS)}
    found.sort(key=lambda facts: (order.get(facts[0], len(order)), facts[0]))
    for name, texts, distinct, least, most in found[:MAX_COLUMNS]:
        counts = connection.execute(
            "SELECT value, count FROM counts WHERE name = ? ORDER BY 2 DESC, 1 LIMIT ?",
            [name, MAX_VALUES if texts or distinct <= MAX_VALUES else 0],
        )
        yield schemas.Column(
            name=name,
            kind="text" if texts else "number",
            values=[schemas.Value(value=str(value), count=count) for value, count in counts],
            least=None if texts else least,
            most=None if texts else most,
        )
