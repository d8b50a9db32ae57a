"""Filters: what they find, their errors, and what they cannot do."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from glam.errors import GlamError
from glam.index.storage.filters import columns, matching
from glam.index.storage.schema import SCHEMA

REMOVED = 3


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Twenty images; number 3 was removed."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    connection.execute("INSERT INTO about VALUES ('secret')")
    for i in range(20):
        metadata = {
            "city": "Paris" if i % 3 == 0 else "Rome",
            "year": 2000 + i,
            "night": i % 2 == 0,
            "it's": i,
            "Größe": 1,
        }
        facts = {
            "id": i,
            "path": f"a/{i}.jpg",
            "label": "abbey" if i % 2 else "",
            "width": 100 + i,
            "height": 50,
            "hash": "h",
            "bytes": 1000,
            "modified": 0,
            "metadata": json.dumps(metadata | ({"only here": 1, "tags": ["x"]} if i == 7 else {}), ensure_ascii=False),
            "state": "removed" if i == REMOVED else "present",
        }
        marks = ", ".join("?" * len(facts))
        connection.execute(f"INSERT INTO images ({', '.join(facts)}) VALUES ({marks})", list(facts.values()))
    connection.commit()
    yield connection
    connection.close()


def everything(connection: sqlite3.Connection) -> list[str]:
    return list(connection.iterdump())


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("city = 'Paris' and year > 2010", [12, 15, 18]),
        ("year between 2001 and 2004", [1, 2, 4]),
        ('"year" > 2017 or [only here] = 1', [7, 18, 19]),
        ("night and image_id < 5", [0, 2, 4]),
        ("not night and image_id < 5", [1]),
        ("landmark like 'abb%' and path glob 'a/1*'", [1, 11, 13, 15, 17, 19]),
        ('"it\'s" = 4', [4]),
        ("Größe = 1 and width = 105", [5]),
        ("lower(city) = 'rome' and image_id <= 2", [1, 2]),
        ("image_id in (1, 2, 3)", [1, 2]),
        ("tags = '[\"x\"]'", [7]),
        ("json_extract(tags, '$[0]') = 'x'", [7]),
        ("tags is null and image_id > 17", [18, 19]),
        ("city = 'select (' or image_id = 1 -- )", [1]),
        ("/* ) */ image_id = 1", [1]),
        ("label = 'abbey' and ID < 4", [1]),  # deprecated names
        ('"label" = "landmark" and id = image_id and id = 5', [5]),
        ("year = '2005'", []),
        ("''", []),
    ],
)
def test_what_an_expression_finds(connection: sqlite3.Connection, where: str, found: list[int]) -> None:
    image_ids = matching(connection, where)
    assert image_ids.dtype == np.int64
    assert image_ids.tolist() == found


def test_removed_images_are_never_found(connection: sqlite3.Connection) -> None:
    assert REMOVED not in matching(connection, "1")
    assert len(matching(connection, "1")) == 19


def test_the_error_for_an_unknown_column_lists_the_columns(connection: sqlite3.Connection) -> None:
    for where in ("yaer > 2010", '"yaer" > 2010', "[yaer] > 2010", "`yaer` > 2010"):
        with pytest.raises(
            GlamError, match=r"no column 'yaer'\. The columns are image_id, path, landmark, .*modified, .*city, .*year"
        ) as no:
            matching(connection, where)
        assert "\n" not in str(no.value)
    with pytest.raises(GlamError, match="single quotes"):
        matching(connection, 'city = "Paris"')


@pytest.mark.parametrize(
    "where", ["", "year >", "1)", "(1", "1) or (1", "year = 1;", "year year", "'open", "/* open", "?", ":a = 1"]
)
def test_an_invalid_expression_is_rejected_in_one_line(connection: sqlite3.Connection, where: str) -> None:
    with pytest.raises(GlamError, match=r"^The filter .* cannot be used: [^\n]+$"):
        matching(connection, where)


@pytest.mark.parametrize(
    "where",
    [
        "1; DROP TABLE images",
        "1) UNION SELECT description FROM about --",
        "EXISTS (SELECT 1 FROM about)",
        "id = (SELECT max(id) FROM image)",
        "id IN about",
        "id IN images",
        "id IN image",
        "id IN sqlite_master",
        "id IN pragma_user_version",
        "id IN (WITH RECURSIVE t(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM t) SELECT x FROM t)",
        "hash = 'h'",
        "state = 'removed'",
        "images.state = 'removed'",
        "segment = 0",
        "rowid = 1",
        "load_extension('x')",
        "readfile('/etc/passwd')",
        "writefile('x', 'y')",
        "randomblob(1000000000) is null",
        "zeroblob(1000000000) is null",
        "length(hex(path)) > 0",
        "printf('%1000000000d', 1) is null",
        "count(*) > 0",
        "row_number() over () = 1",
        "fts3_tokenizer('a') is null",
        "ATTACH DATABASE 'x' AS y",
        "PRAGMA user_version = 9",
        "1 \0",
        "replace(" * 12 + "'aaaaaaaaaa'" + ", 'a', 'aaaaaaaaaa')" * 12 + " = ''",
        "path like '" + "%a" * 1000 + "'",
        "1 or " * 5000 + "1",
    ],
)
def test_a_filter_cannot_read_or_change_anything_else(connection: sqlite3.Connection, where: str) -> None:
    before = everything(connection)
    with pytest.raises(GlamError) as refused:
        matching(connection, where)
    assert "secret" not in str(refused.value)
    assert everything(connection) == before
    connection.execute("CREATE TABLE still_writable (x)")


def long_text(digits: int) -> str:
    """An SQL expression for a text of 9 * 10**digits letters a, from an expression of 40 characters per digit."""
    text = "'aaaaaaaaa'"
    for _ in range(digits):
        text = f"replace({text}, 'a', 'aaaaaaaaaa')"
    return text


SLOW = "+".join(["length(trim(substr(path,1,0)||'{}','{}a'))".format("a" * 900, "c" * 700)] * 5)
"""Comparisons of every letter with every other, for each image."""


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.2])
def test_a_filter_that_takes_too_long_is_stopped(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) INSERT INTO images SELECT"
        " n.i, n.i, label, width, height, hash, bytes, modified, metadata, state FROM images, n WHERE id = 5"
    )
    with pytest.raises(GlamError, match="took more than"):
        matching(connection, f"{SLOW} > 0", seconds=seconds)
    assert matching(connection, "year = 2005 and image_id < 20").tolist() == [5]


@pytest.mark.parametrize(
    "where",
    [
        f"instr({long_text(6)}, {long_text(6)} || 'b') > 0",
        f"{long_text(6)} like '%a%b'",
        f"{long_text(6)} glob '*a*b'",
        f"trim({long_text(5)}, 'b') = ''",
        f"length({long_text(4)} || path) > 0",
    ],
)
def test_no_function_gets_a_text_that_it_could_work_on_for_long(connection: sqlite3.Connection, where: str) -> None:
    with pytest.raises(GlamError, match=r"longer than 10,000 bytes"):
        matching(connection, where)


def test_long_metadata_hinder_no_filter_that_does_not_name_them(connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE images SET metadata = json_set(metadata, '$.story', ?, '$.note', ?) WHERE id = 5",
        ["x" * 50_000, "y" * 9_000],
    )
    assert matching(connection, "year = 2005").tolist() == [5]
    assert matching(connection, "note like 'y%' and length(note) = 9000").tolist() == [5]
    with pytest.raises(GlamError, match=r"longer than 10,000 bytes"):
        matching(connection, "story like 'x%'")


def test_an_expression_with_many_unknown_names_is_stopped_too(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE images SET metadata = json_set(metadata, '$.long', ?)", ["x" * 1_000_000])
    names = " + ".join(f"a{i}" for i in range(1_000))
    with pytest.raises(GlamError, match="took more than"):
        matching(connection, names, seconds=0.2)


def test_keys_that_differ_only_in_case_are_rejected_together(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE images SET metadata = json_set(metadata, '$.City', 'x') WHERE id = 1")
    assert matching(connection, "City = 'x'").tolist() == [1]
    with pytest.raises(GlamError, match="differ only in case"):
        matching(connection, "City = 'x' or city = 'Rome'")


def test_a_column_hides_a_key_of_the_same_name(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE images SET metadata = json_set(metadata, '$.width', 9999)")
    assert len(matching(connection, "width = 9999")) == 0
    assert columns(connection).count("width") == 1


def test_a_read_only_connection_is_enough(connection: sqlite3.Connection, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog")) as copy:
        connection.backup(copy)
    with closing(sqlite3.connect(f"file:{tmp_path}/catalog?mode=ro", uri=True)) as reader:
        assert matching(reader, "year = 2005").tolist() == [5]
