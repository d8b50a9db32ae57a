"""Operations on an index that may be damaged, their errors, and changes of its catalog."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from glam.errors import GlamError
from glam.index import (
    Index,
    add,
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

LIMITS = IndexLimits(commit_images=3, segment_rows=6, save_exact=True)


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


def change_catalog(index: Path, statements: str, *, sealed: bool = False) -> None:
    """Changes a catalog by SQL.

    Args:
        index: folder of the index.
        statements: the changes.
        sealed: whether the checksums match the changed catalog; they are deleted otherwise.
    """
    with closing(sqlite3.connect(index / CATALOG, isolation_level=None)) as database:
        database.executescript(statements)
    if sealed:
        write_checksums(index, {name: digest_file(index / name) for name in (CATALOG, "search/list.json")})
    else:
        (index / CHECKSUMS).unlink()


def files(index: Path) -> dict[str, bytes]:
    """Content of each file, without the lock."""
    found = (file for file in index.rglob("*") if file.is_file() and file.name != "lock")
    return {file.relative_to(index).as_posix(): file.read_bytes() for file in found}
