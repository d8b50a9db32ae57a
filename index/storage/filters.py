"""Filter expressions on images in the catalog, such as ``city = 'Paris' and year > 2010``.

    matching --copy the columns that the expression names--> temporary table --evaluate the expression--> image ids

While SQLite evaluates the expression, the connection can read nothing but the copy and can call only functions on an
allowlist. All of it is stopped after a time limit. SQLite checks for that between two rows, never inside a function, so
strings have a small limit too: it bounds what a single function can take.
"""

import re
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Event, Thread

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

LIMITS = {sqlite3.SQLITE_LIMIT_LENGTH: 10_000, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000}
"""Most bytes of a string and of a LIKE pattern while an expression is evaluated. With them no function
takes more than 0.02 s; with 10 MB, instr took minutes."""

SECONDS = 10.0
"""Time limit of a filter (arbitrary)."""

RETRY_SECONDS = 0.05
"""Interval between two attempts to stop a filter (arbitrary): an attempt between two statements has no effect."""

LONGEST = 10_000
"""Most characters of an expression (arbitrary)."""

SHOWN = 200
"""Most characters of an expression in an error message (arbitrary)."""

TOKENS = re.compile(
    r"""(?P<text>'(?:[^']|'')*') | "(?P<quoted>(?:[^"]|"")*)" | `(?P<ticked>[^`]*)` | \[(?P<bracketed>[^\]]*)\]
    | (?P<word>[^\W\d]\w*)(?P<call>\s*\()? | (?P<comment>--[^\n]*|/\*.*?(?:\*/|$)) | (?P<bracket>[()])""",
    re.VERBOSE | re.DOTALL,
)

TABLE = "image"


def matching(connection: sqlite3.Connection, where: str, *, seconds: float = SECONDS) -> ImageIds:
    """Evaluates a filter expression.

    Args:
        connection: connection to the catalog; nothing else may use it during the call.
        where: SQL expression over `COLUMNS` and the metadata keys of the images. A key that an image lacks is NULL;
            true and false are 1 and 0; lists and objects are JSON texts. A column hides a metadata key of the same
            name. ``id`` and ``label`` are deprecated names of ``image_id`` and ``landmark``.
        seconds: time limit.

    Returns:
        The ids of the images for which the expression is true, (n,) int64 in ascending order.

    Raises:
        GlamError: the expression names an unknown column, does something that is not allowed, is not valid SQL, or
            exceeds the time limit.
    """
    names = _names(where)
    try:
        with _deadline(connection, seconds):
            found = _evaluate(connection, where, names)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise _refused(where, _explanation(str(error), seconds)) from error
    finally:
        connection.execute(f'DROP TABLE IF EXISTS temp."{TABLE}"')
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
def _deadline(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Interrupts every statement on the connection that still runs after the time limit.

    A thread does it: a callback of SQLite would need the GIL, which the other threads of a busy service hold.
    """
    ended = Event()

    def interrupt() -> None:
        pause = max(seconds, 0.0)
        while not ended.wait(pause):
            connection.interrupt()
            pause = RETRY_SECONDS

    thread = Thread(target=interrupt, name="filter-deadline", daemon=True)
    end = time.monotonic() + seconds
    thread.start()
    try:
        yield
        if time.monotonic() > end:  # the last statement ended between two attempts
            raise sqlite3.OperationalError("interrupted")
    finally:
        ended.set()
        thread.join()


def _evaluate(connection: sqlite3.Connection, where: str, names: dict[str, bool]) -> list[tuple[int]]:
    copied = _copy(connection, where, names)
    try:
        with _guard(connection, copied):
            return connection.execute(f'SELECT "image_id" FROM "{TABLE}" WHERE (\n{where}\n) ORDER BY 1').fetchall()
    except sqlite3.OperationalError as error:
        unknown = re.match(r"no such column: (.*)", str(error))
        if unknown:
            raise _no_column(connection, where, unknown[1]) from error
        raise


def _copy(connection: sqlite3.Connection, where: str, names: dict[str, bool]) -> frozenset[str]:
    """Copies the columns and metadata keys that an expression names into the temporary table `TABLE`.

    Without the copy, the small limit on strings would apply to the metadata of an image as a unit.

    Args:
        connection: connection to the catalog.
        where: the expression, for error messages.
        names: result of `_names`.

    Returns:
        The names of the columns in the table.

    Raises:
        GlamError: a quoted name is unknown, or two metadata keys differ only in case.
    """
    keys = [name for name in names if name.lower() not in NAMES and _is_key(connection, name)]
    known = {*NAMES, *(key.lower() for key in keys)}
    if len(known) < len(NAMES) + len(keys):
        raise _refused(where, f"the keys {' and '.join(keys)} differ only in case. Use one of them.")
    for name, quoted in names.items():
        if quoted and name.lower() not in known:  # SQLite would take it as text
            raise _no_column(connection, where, name)
    # Two columns at least, so that `x IN image` is never valid.
    copied = dict.fromkeys(["image_id", "width", *(name.lower() for name in names if name.lower() in NAMES), *keys])
    selected = ", ".join(f'{value_of(name)} AS "{name}"' for name in copied)
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(
        f"""CREATE TEMP TABLE "{TABLE}" AS SELECT {selected} FROM main."images" WHERE "state" = 'present'"""
    )
    return frozenset(copied)


@contextmanager
def _guard(connection: sqlite3.Connection, copied: Collection[str]) -> Iterator[None]:
    """Restricts the connection to reading the columns ``copied`` of `TABLE`, allowed functions, and short strings."""

    def authorize(action: int, first: str | None, second: str | None, database: str | None, inside: str | None) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and (first, database) == (TABLE, "temp") and second in copied:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second is not None and second.lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    usual = {limit: connection.setlimit(limit, most) for limit, most in LIMITS.items()}
    connection.set_authorizer(authorize)
    try:
        yield
    finally:
        connection.set_authorizer(None)
        for limit, most in usual.items():
            connection.setlimit(limit, most)


def _refused(where: str, reason: str) -> GlamError:
    return GlamError(f"The filter {where[:SHOWN]!r} cannot be used: {reason}")


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
    if "too big" in reason:
        most = LIMITS[sqlite3.SQLITE_LIMIT_LENGTH]
        return f"a text in it is longer than {most:,} bytes. Compare columns with shorter values."
    if "bindings" in reason:
        return "parameters are not allowed. Write the values into the filter."
    return f"{reason}. Write it like \"landmark = 'Petra' and width > 800\"."
