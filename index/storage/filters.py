"""Filters on what the catalog knows of an image: ``city = 'Paris' and year > 2010``.

SQLite parses the expression and works it out, image by image, over the columns of an image and those keys of its
metadata that the expression names. Meanwhile the connection may read nothing else, call only functions known to be
harmless, and run for a limited time.
"""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from glam.errors import GlamError
from glam.index.types import ImageIds

COLUMNS = ("image_id", "path", "landmark", "width", "height", "bytes", "modified")

DEPRECATED = {"id": "image_id", "label": "landmark"}
"""Former names of columns, which filters may still use."""

STORED = {"image_id": "id", "landmark": "label"}
"""Columns of the table of images whose names differ from those of a filter."""

NAMES = frozenset((*COLUMNS, *DEPRECATED))

# fmt: off
FUNCTIONS = frozenset((
    "abs", "coalesce", "glob", "ifnull", "instr", "json_extract", "length", "like", "lower", "ltrim", "max", "min",
    "nullif", "replace", "round", "rtrim", "substr", "substring", "trim", "typeof", "unicode", "upper",
    "date", "datetime", "julianday", "strftime", "time", "unixepoch",
))

KEYWORDS = frozenset((
    "and", "between", "case", "else", "end", "escape", "glob", "in", "is", "isnull", "like", "not", "notnull", "null",
    "or", "then", "when",
))
# fmt: on
"""Words that SQL takes for itself, in any place."""

LIMITS = {sqlite3.SQLITE_LIMIT_LENGTH: 10_000_000, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000}
"""On what may be made within one of SQLite's steps: bytes of a text, and of a pattern."""

SECONDS = 10.0
"""How long a filter may run."""

STEPS = 10_000
"""Instructions of SQLite between two looks at the clock."""

LONGEST = 10_000
"""Characters of an expression."""

TOKENS = re.compile(
    r"""(?P<text>'(?:[^']|'')*') | "(?P<quoted>(?:[^"]|"")*)" | `(?P<ticked>[^`]*)` | \[(?P<bracketed>[^\]]*)\]
    | (?P<word>[^\W\d]\w*)(?P<call>\s*\()? | (?P<comment>--[^\n]*|/\*.*?(?:\*/|$)) | (?P<bracket>[()])""",
    re.VERBOSE | re.DOTALL,
)

TABLE = "image"


def matching(connection: sqlite3.Connection, where: str, *, seconds: float = SECONDS, steps: int = STEPS) -> ImageIds:
    """Ids of the images in an index for which an expression holds, rising.

    Args:
        connection: to the catalog; nobody else may use it meanwhile.
        where: an SQL expression over `COLUMNS` and the keys of the images' metadata. An image without a key has NULL
            there; true and false are 1 and 0; a list or an object is its JSON. A key that is called like a column is
            not seen. ``id`` and ``label`` are deprecated names of ``image_id`` and ``landmark``.
        seconds: how long it may run.
        steps: SQLite instructions between two checks of the clock.

    Raises:
        GlamError: it names what there is not, does what it may not, is no expression, or takes too long.
    """
    names = _names(where)
    keys = [name for name in names if name.lower() not in NAMES and _is_key(connection, name)]
    known = {*NAMES, *(key.lower() for key in keys)}
    if len(known) < len(NAMES) + len(keys):
        raise _refused(where, f"the keys {' and '.join(keys)} differ in case only")
    for name, quoted in names.items():
        if quoted and name.lower() not in known:  # SQLite would take it as text
            raise _no_column(connection, where, name)
    selected = [f'{value_of(name)} AS "{name}"' for name in (*COLUMNS, *DEPRECATED, *keys)]
    query = (
        f'WITH "{TABLE}" AS (SELECT {", ".join(selected)} FROM main."images"'
        f""" WHERE "state" = 'present') SELECT "{TABLE}"."image_id" FROM "{TABLE}" WHERE (\n{where}\n) ORDER BY 1"""
    )
    try:
        with _guarded(connection, seconds, steps):
            found = connection.execute(query).fetchall()
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        reason = str(error)
        unknown = re.match(r"no such column: (.*)", reason)
        if unknown:
            raise _no_column(connection, where, unknown[1]) from error
        raise _refused(where, _in_words(reason, seconds)) from error
    return np.array([image_id for (image_id,) in found], dtype=np.int64)


def columns(connection: sqlite3.Connection) -> list[str]:
    """All that a filter can name: `COLUMNS`, then the keys of the images' metadata by name."""
    keys = connection.execute(
        "SELECT DISTINCT entries.key FROM images, json_each(images.metadata) AS entries"
        " WHERE images.state = 'present' ORDER BY entries.key"
    )
    return [*COLUMNS, *(key for (key,) in keys if key.lower() not in NAMES and '"' not in key)]


def value_of(name: str) -> str:
    """The value of a column of a filter, as SQL over the table of images."""
    column = DEPRECATED.get(name, name)
    return f'"{STORED.get(column, column)}"' if column in COLUMNS else f'json_extract("metadata", {_path(name)})'


def _names(where: str) -> dict[str, bool]:
    """Words of an expression that may be columns, and whether they stand in double quotes.

    Raises:
        GlamError: the expression is too long, holds a query of its own, or its brackets do not match.
    """
    if len(where) > LONGEST:
        raise GlamError(f"a filter may have {LONGEST} characters, this one has {len(where)}")
    names: dict[str, bool] = {}
    depth = 0
    for token in TOKENS.finditer(where):
        word, bracket = token["word"], token["bracket"] or token["call"]
        if bracket:
            depth += 1 if bracket.endswith("(") else -1
            if depth < 0:
                break
        if word and word.lower() in ("select", "with", "values"):
            raise _refused(where, "it may not hold a query of its own")
        for group in ("quoted", "ticked", "bracketed"):
            if token[group] is not None:
                names[token[group]] = group == "quoted"
        if word and not token["call"]:
            names.setdefault(word, False)
    if depth != 0:
        raise _refused(where, "its brackets do not match")
    return names


def _is_key(connection: sqlite3.Connection, name: str) -> bool:
    if '"' in name or "\0" in name:
        return False
    query = f"SELECT 1 FROM images WHERE state = 'present' AND json_type(metadata, {_path(name)}) IS NOT NULL LIMIT 1"
    return name.lower() not in KEYWORDS and connection.execute(query).fetchone() is not None


def _path(key: str) -> str:
    """The path of a key, as a text of SQL."""
    return "'$.\"" + key.replace("'", "''") + "\"'"


@contextmanager
def _guarded(connection: sqlite3.Connection, seconds: float, steps: int) -> Iterator[None]:
    """Keeps the connection to what a filter needs, for as long as it may run."""
    end = time.monotonic() + seconds
    usual = {limit: connection.setlimit(limit, most) for limit, most in LIMITS.items()}
    connection.set_authorizer(_may)
    connection.set_progress_handler(lambda: time.monotonic() > end, steps)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        for limit, most in usual.items():
            connection.setlimit(limit, most)


def _may(action: int, first: str | None, second: str | None, database: str | None, inside: str | None) -> int:
    """What SQLite asks while it prepares a statement; ``inside`` is the table expression that it is in."""
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ:
        ours = first == TABLE or (first == "images" and database == "main" and inside == TABLE)
        return sqlite3.SQLITE_OK if ours else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and second is not None and second.lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _refused(where: str, reason: str) -> GlamError:
    return GlamError(f"the filter {where!r} cannot be used: {reason}")


def _no_column(connection: sqlite3.Connection, where: str, name: str) -> GlamError:
    text = "; text stands in single quotes" if f'"{name}"' in where else ""
    return _refused(where, f"there is no column {name!r}; the columns are {', '.join(columns(connection))}{text}")


def _in_words(reason: str, seconds: float) -> str:
    if reason == "interrupted":
        return f"it took more than {seconds:.0f} seconds"
    if "not authorized" in reason or "prohibited" in reason:
        function = re.search(r"function: (\w+)", reason)
        return f"it may not call {function[1]}" if function else "it may only compare what is known of an image"
    if reason.startswith("unrecognized token"):
        return "a quotation mark is not closed, or a character means nothing"
    return "it may not have parameters" if "bindings" in reason else reason
