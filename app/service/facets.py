"""Facets: the columns that filter expressions can use, with their values and counts."""

import sqlite3
from pathlib import Path

from glam.app.service import schemas
from glam.index.storage.filters import columns, value_of
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
        names = [name for name in columns(catalog.connection) if name not in UNLISTED][:MAX_COLUMNS]
        with catalog.snapshot():
            found = [_column(catalog.connection, name) for name in names]
    finally:
        catalog.close()
    return [column for column in found if column is not None]


def _column(connection: sqlite3.Connection, name: str) -> schemas.Column | None:
    """One column; None if no image has a value."""
    values = f"SELECT {value_of(name)} AS value FROM images WHERE state = 'present'"
    present = f"(SELECT value FROM ({values}) WHERE value IS NOT NULL AND value != '')"
    texts = "coalesce(sum(typeof(value) = 'text'), 0)"
    is_text, distinct, least, most = connection.execute(
        f"SELECT {texts} > 0, count(DISTINCT value), min(value), max(value) FROM {present}"
    ).fetchone()
    if not distinct:
        return None
    listed = is_text or distinct <= MAX_VALUES
    counts = connection.execute(
        f"SELECT value, count(*) FROM {present} GROUP BY value ORDER BY 2 DESC, 1 LIMIT ?",
        [MAX_VALUES if listed else 0],
    )
    return schemas.Column(
        name=name,
        kind="text" if is_text else "number",
        values=[schemas.Value(value=str(value), count=count) for value, count in counts],
        least=None if is_text else least,
        most=None if is_text else most,
    )
