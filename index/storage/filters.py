"""Filter expressions on images in the catalog, such as ``city = 'Paris' and year > 2010``.

SQLite evaluates the expression for each image, over the columns of the image and the metadata keys that the expression
names. While it runs, the connection can read nothing else, can call only functions on an allowlist, and is stopped
after a time limit.
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
"""Columns whose names in the table `images` differ from their names in filters."""

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
"""Words with a meaning in SQL, which cannot name a metadata key without quotes."""

LIMITS = {sqlite3.SQLITE_LIMIT_LENGTH: 10_000_000, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000}
"""Most bytes of a string and of a LIKE pattern (arbitrary), because the time limit cannot stop a single SQLite step."""

SECONDS = 10.0
"""Time limit of a filter (arbitrary)."""

STEPS = 10_000
"""SQLite instructions between two checks of the clock (arbitrary)."""

LONGEST = 10_000
"""Most characters of an expression (arbitrary)."""

TOKENS = re.compile(
    r"""(?P<text>'(?:[^']|'')*') | "(?P<quoted>(?:[^"]|"")*)" | `(?P<ticked>[^`]*)` | \[(?P<bracketed>[^\]]*)\]
    | (?P<word>[^\W\d]\w*)(?P<call>\s*\()? | (?P<comment>--[^\n]*|/\*.*?(?:\*/|$)) | (?P<bracket>[()])""",
    re.VERBOSE | re.DOTALL,
)

TABLE = "image"


def matching(connection: sqlite3.Connection, where: str, *, seconds: float = SECONDS, steps: int = STEPS) -> ImageIds:
    """Evaluates a filter expression.

    Args:
        connection: connection to the catalog; no other thread may use it during the call.
        where: SQL expression over `COLUMNS` and the metadata keys of the images. A key that an image lacks is NULL;
            true and false are 1 and 0; lists and objects are JSON texts. A column hides a metadata key of the same
            name. ``id`` and ``label`` are deprecated names of ``image_id`` and ``landmark``.
        seconds: time limit.
        steps: SQLite instructions between two checks of the clock.

    Returns:
        The ids of the images for which the expression is true, (n,) int64 in ascending order.

    Raises:
        GlamError: the expression names an unknown column, does something that is not allowed, is not valid SQL, or
            exceeds the time limit.
    """
    names = _names(where)
    keys = [name for name in names if name.lower() not in NAMES and _is_key(connection, name)]
    known = {*NAMES, *(key.lower() for key in keys)}
    if len(known) < len(NAMES) + len(keys):
        raise _refused(where, f"the keys {' and '.join(keys)} differ only in case. Use one of them.")
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
        raise _refused(where, _explanation(reason, seconds)) from error
    return np.array([image_id for (image_id,) in found], dtype=np.int64)


def columns(connection: sqlite3.Connection) -> list[str]:
    """The names that a filter can use: `COLUMNS`, then the metadata keys of the images in alphabetical order.

    Args:
        connection: connection to the catalog.
    """
    keys = connection.execute(
        "SELECT DISTINCT entries.key FROM images, json_each(images.metadata) AS entries"
        " WHERE images.state = 'present' ORDER BY entries.key"
    )
    return [*COLUMNS, *(key for (key,) in keys if key.lower() not in NAMES and '"' not in key)]


def value_of(name: str) -> str:
    """The value of a filter column or metadata key, as an SQL expression over the table `images`."""
    column = DEPRECATED.get(name, name)
    return f'"{STORED.get(column, column)}"' if column in COLUMNS else f'json_extract("metadata", {_path(name)})'


def _names(where: str) -> dict[str, bool]:
    """Words in an expression that may be columns, and for each whether it is in double quotes.

    Raises:
        GlamError: the expression is too long, contains a subquery, or has unbalanced parentheses.
    """
    if len(where) > LONGEST:
        raise GlamError(f"The filter has {len(where)} characters, and at most {LONGEST} are allowed. Shorten it.")
    names: dict[str, bool] = {}
    depth = 0
    for token in TOKENS.finditer(where):
        word, bracket = token["word"], token["bracket"] or token["call"]
        if bracket:
            depth += 1 if bracket.endswith("(") else -1
            if depth < 0:
                break
        if word and word.lower() in ("select", "with", "values"):
            raise _refused(where, "subqueries are not allowed. Compare columns with values.")
        for group in ("quoted", "ticked", "bracketed"):
            if token[group] is not None:
                names[token[group]] = group == "quoted"
        if word and not token["call"]:
            names.setdefault(word, False)
    if depth != 0:
        raise _refused(where, "its parentheses do not match. Close each parenthesis that you open.")
    return names


def _is_key(connection: sqlite3.Connection, name: str) -> bool:
    if '"' in name or "\0" in name:
        return False
    query = f"SELECT 1 FROM images WHERE state = 'present' AND json_type(metadata, {_path(name)}) IS NOT NULL LIMIT 1"
    return name.lower() not in KEYWORDS and connection.execute(query).fetchone() is not None


def _path(key: str) -> str:
    """The JSON path of a metadata key, as an SQL string literal."""
    return "'$.\"" + key.replace("'", "''") + "\"'"


@contextmanager
def _guarded(connection: sqlite3.Connection, seconds: float, steps: int) -> Iterator[None]:
    """Restricts the connection to what a filter needs, and stops it after the time limit."""
    end = time.monotonic() + seconds
    usual = {limit: connection.setlimit(limit, most) for limit, most in LIMITS.items()}
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: time.monotonic() > end, steps)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        for limit, most in usual.items():
            connection.setlimit(limit, most)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, inside: str | None) -> int:
    """Authorizer callback of SQLite; ``inside`` is the innermost view or common table expression of the access."""
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ:
        ours = first == TABLE or (first == "images" and database == "main" and inside == TABLE)
        return sqlite3.SQLITE_OK if ours else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and second is not None and second.lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _refused(where: str, reason: str) -> GlamError:
    return GlamError(f"The filter {where!r} cannot be used: {reason}")


def _no_column(connection: sqlite3.Connection, where: str, name: str) -> GlamError:
    quotes = " Write text in single quotes." if f'"{name}"' in where else ""
    return _refused(where, f"there is no column {name!r}. The columns are {', '.join(columns(connection))}.{quotes}")


def _explanation(reason: str, seconds: float) -> str:
    """Explains an error message of SQLite."""
    if reason == "interrupted":
        return f"it took more than {seconds:.0f} seconds. Simplify it."
    if "not authorized" in reason or "prohibited" in reason:
        function = re.search(r"function: (\w+)", reason)
        if function:
            return f"the function {function[1]} is not allowed. Allowed are {', '.join(sorted(FUNCTIONS))}."
        return "only comparisons of columns and metadata keys are allowed."
    if reason.startswith("unrecognized token"):
        return "a quotation mark is not closed, or a character is not part of SQL. Write text in single quotes."
    if "bindings" in reason:
        return "parameters are not allowed. Write the values into the filter."
    return f"{reason}. Write it like \"landmark = 'Petra' and width > 800\"."
