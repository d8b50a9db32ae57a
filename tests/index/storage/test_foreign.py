"""An index from elsewhere, or a damaged one: each operation works or raises one sentence, whatever the folder holds."""

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glam.datasets.collection import ScanOptions
from glam.errors import GlamError
from glam.index import (
    Index,
    add,
    build,
    compact,
    info,
    near_duplicates,
    precompute,
    read_source,
    relocate,
    remove,
    sync,
    verify,
)
from glam.index.limits import IndexLimits
from glam.index.operations.source import read_images
from glam.index.storage.checksums import CHECKSUMS, digest_file, write_checksums
from glam.index.storage.schema import CATALOG
from glam.index.storage.segments import segment_file

LIMITS = IndexLimits(commit_images=3, segment_rows=6, save_exact=True)

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


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for i in range(10):
        tile = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(tile).resize((40, 30)).save(root / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def original(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with two segments, a removed image, a saved structure, local features, and a kNN graph."""
    from tests.conftest import ContentModel

    index = tmp_path_factory.mktemp("index") / "i.glam"
    model: Any = ContentModel()
    build(index, read_images(photos, ScanOptions(exclude=("drafts/",))), model, limits=LIMITS)
    precompute(index, local_features=True, knn_graph=True, limits=LIMITS)
    remove(index, ["9.png"], limits=LIMITS)
    return index


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "i.glam"))


def use(index: Path, photos: Path, model: Any, chosen: Sequence[str] = ()) -> list[str]:
    """Runs operations that read and write an index, all or those chosen; returns their errors.

    Each error must be a `GlamError` of one line.
    """

    def search() -> None:
        with Index.open(index, limits=LIMITS) as opened:
            ids = opened.image_ids.tolist()
            opened.search(opened.descriptors(ids), k=3, where="width > 1", rerank="dba")
            opened.entries(ids)
            opened.unreadable()
            near_duplicates(opened, 0.9)
            for image_id in ids:
                opened.local_features(image_id)

    operations: dict[str, Callable[[], object]] = {
        "verify": lambda: verify(index).problems,
        "search": search,
        "info": lambda: info(index),
        "add": lambda: add(index, [photos / "0.png"], lambda: model, limits=LIMITS),
        "remove": lambda: remove(index, ["1.png"], limits=LIMITS),
        "compact": lambda: compact(index, limits=LIMITS),
        "sync": lambda: sync(index, read_images(photos), lambda: model, limits=LIMITS),
        "sync as before": lambda: sync(index, read_source(index), lambda: model, limits=LIMITS),
        "relocate": lambda: relocate(index, photos, limits=LIMITS),
        "precompute": lambda: precompute(index, local_features=True, knn_graph=True, limits=LIMITS),
        "search again": search,
    }
    errors = []
    for name in chosen or operations:
        try:
            operations[name]()
        except GlamError as error:
            errors.append(str(error))
    assert not any("\n" in error for error in errors)
    return errors


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement[:60].replace("/", " "))
def test_any_change_of_the_catalog_works_or_is_one_sentence(
    statement: str, index: Path, photos: Path, content_model: Any
) -> None:
    (index / CHECKSUMS).unlink()
    with closing(sqlite3.connect(index / CATALOG, isolation_level=None)) as database:
        database.executescript(statement)
    use(index, photos, content_model)


@pytest.mark.parametrize("statement", [text for text in STATEMENTS if text.startswith("UPDATE images")])
def test_checksums_of_whoever_changed_the_catalog_prove_nothing(
    statement: str, index: Path, photos: Path, content_model: Any
) -> None:
    with closing(sqlite3.connect(index / CATALOG, isolation_level=None)) as database:
        database.executescript(statement)
    write_checksums(index, {name: digest_file(index / name) for name in (CATALOG, "search/list.json")})
    use(index, photos, content_model)


@pytest.mark.parametrize("key", ["path", "exclude", "follow_links", "landmark_from", "is_list", "skipped"])
def test_a_source_without_one_of_its_fields_is_refused(key: str, index: Path, photos: Path, content_model: Any) -> None:
    (index / CHECKSUMS).unlink()
    with closing(sqlite3.connect(index / CATALOG, isolation_level=None)) as database:
        database.execute(f"UPDATE about SET description = json_remove(description, '$.source.{key}')")
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 10
    assert all(f"the configuration cannot be read, because it has no {key!r}" in error for error in errors)
    assert files(index) == before


@pytest.mark.parametrize("statement", [text for text in STATEMENTS if text.startswith(("CREATE", "DROP", "ALTER"))])
def test_tables_of_another_form_are_refused_and_nothing_is_run(
    statement: str, index: Path, photos: Path, content_model: Any
) -> None:
    (index / CHECKSUMS).unlink()
    with closing(sqlite3.connect(index / CATALOG, isolation_level=None)) as database:
        database.executescript(statement)
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 10
    assert all("its tables are not those of its version" in error for error in errors)
    assert files(index) == before
    assert [problem.file for problem in verify(index).problems] == [CATALOG]


def files(index: Path) -> dict[str, bytes]:
    """Content of each file, without the lock."""
    found = (file for file in index.rglob("*") if file.is_file() and file.name != "lock")
    return {file.relative_to(index).as_posix(): file.read_bytes() for file in found}


def damaged(content: bytes, random: np.random.Generator) -> list[bytes]:
    """A content with flipped bits, zeros, other lengths, and nothing that makes sense."""
    start, end = sorted(random.integers(1, len(content) + 1, 2).tolist())
    flipped = bytearray(content)
    for offset in random.integers(0, len(content), 3).tolist():
        flipped[offset] ^= 1 << int(random.integers(8))
    return [
        b"",
        content[:start],
        content + content[:end],
        content[:start] + bytes(end - start) + content[end:],
        bytes(flipped),
        b"[" * 200_000,
        b'{"files": {"../../secret": "x", "a/b/c": 7}, "own": ""}',
        b'{"kind": "exact", "structure": "../x", "ids": "../y", "digests": {}}',
        b'{"pid": [], "host": {}, "command": 1, "since": null}',
    ]


@pytest.mark.parametrize("checksums", ["with checksums", "without"])
def test_any_damage_of_any_file_works_or_is_one_sentence(
    checksums: str, original: Path, photos: Path, tmp_path: Path, content_model: Any
) -> None:
    random = np.random.default_rng(0)
    for name, content in files(original).items():
        for i, spoilt in enumerate(damaged(content or b"?", random)):
            index = Path(shutil.copytree(original, tmp_path / "i.glam"))
            if checksums == "without":
                (index / CHECKSUMS).unlink()
            (index / name).write_bytes(spoilt)
            try:
                use(index, photos, content_model, ("verify", "search", "remove"))
            except Exception as error:
                raise AssertionError(f"{name}, damage {i}") from error
            shutil.rmtree(index)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere {path.name}"
    elsewhere.write_bytes(b"elsewhere")
    path.symlink_to(elsewhere)


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [make_folder, make_link, make_dangling_link, make_pipe])
def test_what_is_not_a_file_is_refused_and_stays(
    make: Callable[[Path], None], original: Path, photos: Path, tmp_path: Path, content_model: Any
) -> None:
    stray = [f"{folder}/stray" for folder in ("descriptors", "search", "rerank")]
    for name in (*files(original), "lock", *stray):
        index = Path(shutil.copytree(original, tmp_path / "i.glam"))
        path = index / name
        path.unlink(missing_ok=True)
        make(path)
        before = files(index)
        if name == CATALOG:
            before.pop(CATALOG, None)
        errors = use(index, photos, content_model)
        assert len(errors) >= 10, name
        after = files(index)
        assert all(after[other] == content for other, content in before.items()), name
        assert path.is_dir() or path.is_symlink() or path.is_fifo()
        if name != CATALOG:
            assert [problem.file for problem in verify(index).problems] == [name]
        shutil.rmtree(index)


@pytest.mark.parametrize("name", ["descriptors", "search", "rerank"])
def test_a_folder_that_is_a_link_is_refused(name: str, index: Path, photos: Path, content_model: Any) -> None:
    elsewhere = index.parent / name
    (index / name).rename(elsewhere)
    (index / name).symlink_to(elsewhere)
    before = files(elsewhere)
    assert all("a link" in error for error in use(index, photos, content_model))
    assert files(elsewhere) == before


def swap(index: Path) -> None:
    first, second = segment_file(index, 1), segment_file(index, 2)
    rows = min(first.stat().st_size, second.stat().st_size)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other[:rows] + one[rows:])
    second.write_bytes(one[:rows] + other[rows:])


def cut(index: Path) -> None:
    segment_file(index, 1).write_bytes(segment_file(index, 1).read_bytes()[:-1])


def delete(index: Path) -> None:
    segment_file(index, 1).unlink()


def empty(index: Path) -> None:
    segment_file(index, 1).write_bytes(b"")


def zero(index: Path) -> None:
    segment_file(index, 1).write_bytes(bytes(segment_file(index, 1).stat().st_size))


def infinite(index: Path) -> None:
    with segment_file(index, 1).open("r+b") as file:
        file.write(struct.pack("<f", float("inf")))


@pytest.mark.parametrize("checksums", ["with checksums", "without"])
@pytest.mark.parametrize("spoil", [swap, cut, delete, empty, zero, infinite])
def test_damaged_descriptors_are_refused_by_readers_and_writers(
    spoil: Callable[[Path], None], checksums: str, index: Path, photos: Path, content_model: Any
) -> None:
    spoil(index)
    if checksums == "without":
        (index / CHECKSUMS).unlink()
    before = files(index)
    errors = use(index, photos, content_model)
    assert len(errors) == 9  # all but `info` and `verify`
    assert all("descriptors/00000" in error and "damaged" in error for error in errors)
    assert files(index) == before
    assert any(problem.file.startswith("descriptors/") for problem in verify(index).problems)


def test_an_image_without_a_descriptor_is_refused(index: Path, photos: Path, content_model: Any) -> None:
    """The number of images and the outer ids are those of the descriptors."""
    remove(index, ["4.png"], limits=LIMITS)
    compact(index, limits=LIMITS)
    with closing(sqlite3.connect(index / CATALOG, isolation_level=None)) as database:
        database.execute("UPDATE images SET id = 4 WHERE id = 5")
    write_checksums(index, {name: digest_file(index / name) for name in (CATALOG, "search/list.json")})
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
