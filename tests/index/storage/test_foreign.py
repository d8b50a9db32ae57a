"""A catalog from elsewhere, or a damaged one: each operation works or raises one sentence, whatever it holds."""

from pathlib import Path
from typing import Any

import pytest

from glam.index import compact, remove, verify
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.schema import CATALOG
from tests.index.storage.foreign import LIMITS, change_catalog, files, use

STATEMENTS = [
    *(f"UPDATE about SET description = {value}" for value in ("'{'", "x'00'", "7", "'[]'", "'null'", "''", "'\"x\"'")),
    f"UPDATE about SET description = '{'[' * 200_000}'",
    *(
        f"UPDATE about SET description = json_set(description, '$.{key}', json('{value}'))"
        for key in ("dim", "size", "scales", "fingerprint", "model", "root", "structure", "milvus", "keeps", "x")
        for value in ("-1", "0", "1e999", "1e30", "[]", '"x"', "null", "true", '{"a": 1}', "[null]", "[1e999]", "[0]")
    ),
    *(
        f"UPDATE about SET description = json_set(description, '$.source.{key}', json('{value}'))"
        for key in (
            *("path", "exclude", "follow_links", "landmark_from", "is_list", "skipped", "more"),
            *(f"skipped.{name}" for name in ("formats", "excluded", "links", "unlisted")),
        )
        for value in ("-1", "[]", '"x"', "null", '{"a": -1}', '[["a"]]')
    ),
    *(
        f"UPDATE about SET description = json_set(description, '$.source.{key}', json('{value}'))"
        for key, value in (
            *(("path", f'"{text}"') for text in ("\\u0000", "\\ud800", "\\udc80", "/", "x/" * 3000)),
            *(("exclude", f'["{text}"]') for text in ("[", "!", "\\u0000", "\\ud800", "\\udc80", "***")),
        )
    ),
    *(
        f"UPDATE about SET description = json_remove(description, '$.source.{key}')"
        for key in ("path", "exclude", "follow_links", "landmark_from", "is_list", "skipped")
    ),
    *(f"UPDATE about SET description = json_set(description, '$.source', json('{value}'))" for value in ("[]", "{}")),
    "UPDATE about SET description = json_set(description, '$.root', json('\"\\u0000\"'))",
    "UPDATE about SET description = json_set(description, '$.dim', 1000000000)",
    "UPDATE about SET description = json_remove(description, '$.dim')",
    "UPDATE about SET description = json_set(description, '$.model', json('\"\\ud800\"'))",
    "DELETE FROM about",
    "INSERT INTO about SELECT * FROM about",
    *(
        f"UPDATE segments SET {column} = {value} WHERE number = 1"
        for column in ("number", "rows")
        for value in ("-5", "0", "1 << 40", "9223372036854775807")
    ),
    *(f"UPDATE segments SET rows = {value}" for value in ("'a'", "x'00'", "1.5", "rows - 1", "rows + 1")),
    "DELETE FROM segments",
    "INSERT INTO segments VALUES (900, 3)",
    *(
        f"UPDATE batches SET {column} = {value} WHERE segment = 1 AND first = 0"
        for column in ("segment", "first", "rows")
        for value in ("-1", "'a'", "x'00'", "1000000", "1e300", "9223372036854775807")
    ),
    *(f"UPDATE batches SET images = {value}" for value in ("x''", "x'0102'", "7", "'text'", "zeroblob(24)")),
    "UPDATE batches SET images = x'ffffffffffffffff' || substr(images, 9)",
    *(f"UPDATE batches SET digest = {value}" for value in ("''", "7", "x'00'", "upper(digest)", "'../../etc'")),
    "DELETE FROM batches",
    *(
        f"UPDATE images SET {column} = {value} WHERE id = 2"
        for column in ("label", "width", "height", "hash", "bytes", "modified", "metadata", "state", "path")
        for value in ("x'ff'", "CAST(x'ff' AS TEXT)", "1.5", "'{'", "'[1]'", "char(0)", "9223372036854775807")
    ),
    *(
        f"UPDATE images SET metadata = '{{\"a\": {value}}}' WHERE id = 2"
        for value in (
            *("[" * depth + "]" * depth for depth in (90, 150, 900, 990, 1_500)),
            *('"\\ud800"', "1e999", "NaN", "9" * 5_000, "0x10", '"\\u0000"'),
        )
    ),
    "UPDATE images SET metadata = '{a: 1}' WHERE id = 2",
    "UPDATE images SET id = -7 WHERE id = 2",
    "UPDATE images SET id = 9223372036854775807 WHERE id = 2",
    "DELETE FROM images WHERE id = 2",
    "DELETE FROM images",
    "INSERT INTO unreadable VALUES (x'ff', CAST(x'ff' AS TEXT))",
    *(f"UPDATE sqlite_sequence SET seq = {value}" for value in ("'a'", "-1", "0", "9223372036854775807", "1e300")),
    "DELETE FROM sqlite_sequence",
    "INSERT INTO sqlite_sequence VALUES ('images', 5)",
    *(
        f"UPDATE kept SET {column} = {value}"
        for column in ("kind", "recipe", "images", "digest")
        for value in ("x'ff'", "7", "''", "'../../x'", "'text'")
    ),
    "UPDATE kept SET number = -1 WHERE kind = 'features'",
    "UPDATE kept SET images = zeroblob(8)",
    "UPDATE kept SET kind = CASE kind WHEN 'features' THEN 'neighbours' ELSE 'features' END",
    *(f"PRAGMA user_version = {version}" for version in (-1, 0, 1, 2, 4, 2147483647)),
    "CREATE TRIGGER t AFTER UPDATE ON images BEGIN DELETE FROM images; END",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TABLE more (x)",
    "CREATE INDEX i ON images (abs(width))",
    "DROP TABLE kept",
    "DROP TABLE images",
    "DROP INDEX present_paths",
    "ALTER TABLE images ADD COLUMN more TEXT DEFAULT 'x'",
    "ALTER TABLE images ADD COLUMN more TEXT GENERATED ALWAYS AS (path || 'x')",
    "DROP TABLE unreadable; CREATE VIEW unreadable AS WITH RECURSIVE c(path, reason) AS "
    "(SELECT 'a', 'b' UNION ALL SELECT path, reason FROM c) SELECT * FROM c",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE TABLE about (x)' WHERE name = 'about'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 7 WHERE name = 'about'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'images'",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 1 WHERE name = 'batches'",
    "PRAGMA journal_mode = WAL",
]
"""Changes of a catalog, as SQL."""


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement[:60].replace("/", " "))
def test_any_change_of_the_catalog_works_or_is_one_sentence(
    statement: str, index: Path, photos: Path, content_model: Any
) -> None:
    change_catalog(index, statement)
    use(index, photos, content_model)


@pytest.mark.parametrize("statement", [text for text in STATEMENTS if text.startswith("UPDATE images")])
def test_checksums_of_whoever_changed_the_catalog_prove_nothing(
    statement: str, index: Path, photos: Path, content_model: Any
) -> None:
    change_catalog(index, statement, sealed=True)
    use(index, photos, content_model)


@pytest.mark.parametrize("key", ["path", "exclude", "follow_links", "landmark_from", "is_list", "skipped"])
def test_a_source_without_one_of_its_fields_is_refused(key: str, index: Path, photos: Path, content_model: Any) -> None:
    change_catalog(index, f"UPDATE about SET description = json_remove(description, '$.source.{key}')")
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 10
    assert all(f"the configuration cannot be read, because it has no {key!r}" in error for error in errors)
    assert files(index) == before


@pytest.mark.parametrize("statement", [text for text in STATEMENTS if text.startswith(("CREATE", "DROP", "ALTER"))])
def test_tables_of_another_form_are_refused_and_nothing_is_run(
    statement: str, index: Path, photos: Path, content_model: Any
) -> None:
    change_catalog(index, statement)
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 10
    assert all("its tables are not those of its version" in error for error in errors)
    assert files(index) == before
    assert [problem.file for problem in verify(index).problems] == [CATALOG]


def test_an_image_without_a_descriptor_is_refused(index: Path, photos: Path, content_model: Any) -> None:
    """The number of images and the outer ids are those of the descriptors."""
    remove(index, ["4.png"], limits=LIMITS)
    compact(index, limits=LIMITS)
    change_catalog(index, "UPDATE images SET id = 4 WHERE id = 5", sealed=True)
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 10
    assert all("the images do not match the descriptors one to one" in error for error in errors)
    assert files(index) == before


def test_a_catalog_older_than_its_descriptors_is_refused_and_nothing_is_deleted(
    index: Path, photos: Path, content_model: Any
) -> None:
    """The catalog and its checksums are restored from a backup, and the descriptors are those of today."""
    backup = {name: (index / name).read_bytes() for name in (CATALOG, CHECKSUMS)}
    compact(index, limits=LIMITS)
    today = files(index)
    for restored in ({CATALOG}, {CATALOG, CHECKSUMS}):
        for name in backup:
            (index / name).write_bytes(backup[name] if name in restored else today[name])
        before = files(index)
        assert use(index, photos, content_model)
        assert files(index) == before
    for name in backup:
        (index / name).write_bytes(today[name])
    assert verify(index).problems == ()
