"""The catalog: what is in an index, in SQLite. It says which descriptors count, and to which image each belongs.

    Writer (all that changes it)   Index, verify, info, sync's plan (all that reads it)   --> Catalog --> SQLite

The tables are in `glam.index.storage.schema`; those of older versions become these in `glam.index.storage.migrations`.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glam.errors import GlamError
from glam.index.storage.milvus_config import MilvusConfig
from glam.index.storage.schema import CATALOG, READABLE, SCHEMA_VERSION, connect, create_tables, open_any_version
from glam.index.types import ImageIds, Rows, SegmentNumbers

if TYPE_CHECKING:  # PyTorch takes seconds to load, and most of what is done with an index needs no model
    from glam.model import Model


@dataclass(frozen=True)
class IndexConfig:
    """What an index was built with.

    Attributes:
        model: what the model was loaded by.
        fingerprint: of the model; descriptors of another do not fit.
        dim: length of a descriptor.
        size: longest side in pixels at which images were described.
        scales: that were averaged.
        root: folder that the images' paths are relative to.
        structure: the search structure that was asked for; '' where it is chosen by size.
        milvus: the collection that is searched; None where FAISS searches.
        keeps: what is kept for reranking, of `glam.index.rerank_store.files.KINDS`.
    """

    model: str
    fingerprint: str
    dim: int
    size: int
    scales: tuple[float, ...]
    root: str
    structure: str = ""
    milvus: MilvusConfig | None = None
    keeps: tuple[str, ...] = ()

    def check_model(self, index: Path, model: "Model") -> None:
        """Makes sure that descriptors of ``model`` can be compared with those in the index at ``index``.

        Raises:
            GlamError: it is another model than the index was built with.
        """
        if model.fingerprint != self.fingerprint:
            other = "another version of it" if model.name == self.model else model.name
            raise GlamError(
                f"{index} was built with {self.model}, and descriptors of {other} cannot be compared with it. "
                "Use the model of the index, or build a new index."
            )


@dataclass(frozen=True)
class Entry:
    """One image of an index.

    Attributes:
        image_id: its number, never given to another image.
        path: relative to the index's root, with forward slashes.
        landmark: what it shows; empty where that is not known.
        width, height: in pixels, upright.
        metadata: what else is known of it, by name.
    """

    image_id: int
    path: str
    landmark: str
    width: int
    height: int
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


class FileFacts(NamedTuple):
    """What is recorded of an image's file.

    Attributes:
        path, landmark: as in `Entry`.
        metadata: JSON object.
        hash: BLAKE2b-128 of its bytes.
        bytes: size of the file.
        modified: its time, in nanoseconds.
    """

    path: str
    landmark: str
    metadata: str
    hash: str
    bytes: int
    modified: int


class StoredImage(NamedTuple):
    """An image as the catalog has it: its id, the facts of its file, and whether it is present."""

    image_id: int
    facts: FileFacts
    present: bool


class DescriptorBatch(NamedTuple):
    """Descriptors that were written together.

    Attributes:
        segment: number of the segment.
        first: row of the segment at which they begin.
        image_ids: (n,), of the image that each row belongs to.
        digest: of the descriptors.
    """

    segment: int
    first: int
    image_ids: ImageIds
    digest: str


class NewImage(NamedTuple):
    """An image that has just been described: facts of its file, pixels of the upright image."""

    facts: FileFacts
    width: int
    height: int


class Catalog:
    """The catalog of one index. One thread at a time may use it; `IndexReader` sees to that.

    Attributes:
        connection: to the database; `glam.index.storage.filters` asks it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    def create(cls, index: Path, config: IndexConfig) -> "Catalog":
        """Makes an empty catalog in the folder ``index``; one must not be there."""
        catalog = cls(connect(index / CATALOG, "rwc"))
        with catalog.transaction():
            create_tables(catalog.connection)
            catalog.connection.execute("INSERT INTO about VALUES (?)", [json.dumps(asdict(config))])
        return catalog

    @classmethod
    def open(cls, index: Path) -> "Catalog":
        """Opens the catalog of the index in the folder ``index``.

        Raises:
            GlamError: it is not there, is no catalog, or was written by another version.
        """
        connection, version = open_any_version(index)
        if version not in READABLE:
            connection.close()
            raise GlamError(f"{index}: schema version {version}; this version of glam reads {SCHEMA_VERSION}")
        return cls(connection)

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What happens inside happens wholly or not at all."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment."""
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    @property
    def version(self) -> int:
        """Of the schema; a writer that comes later may have brought it to a newer one."""
        return self._number("PRAGMA user_version")

    @property
    def config(self) -> IndexConfig:
        """What the index was built with."""
        (text,) = self.connection.execute("SELECT description FROM about").fetchone()
        values = json.loads(text)
        milvus = values.get("milvus")
        lists = {name: tuple(values.get(name, ())) for name in ("scales", "keeps")}
        return IndexConfig(**{**values, **lists, "milvus": MilvusConfig(**milvus) if milvus else None})

    def __len__(self) -> int:
        return self._number("SELECT coalesce(sum(rows), 0) FROM segments") - self.removed_count()

    def removed(self) -> ImageIds:
        """Ids of the images that were removed and still take up room."""
        found = self.connection.execute("SELECT id FROM images WHERE state = 'removed'")
        return np.array([image_id for (image_id,) in found], dtype=np.int64)

    def removed_count(self) -> int:
        """How many images were removed and still take up room."""
        return self._number("SELECT count(*) FROM images WHERE state = 'removed'")

    def landmark_count(self) -> int:
        """How many landmarks are named."""
        return self._number("SELECT count(DISTINCT label) FROM images WHERE label != '' AND state = 'present'")

    def entries(self, image_ids: Sequence[int]) -> dict[int, Entry]:
        """The entries of these images by image id; those that are gone are left out."""
        found = self.connection.execute(
            "SELECT id, path, label, width, height, metadata FROM images WHERE id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(image_ids))],
        )
        return {
            image_id: Entry(image_id, path, landmark, width, height, json.loads(metadata))
            for image_id, path, landmark, width, height, metadata in found
        }

    def present_rows(self) -> tuple[ImageIds, SegmentNumbers, Rows]:
        """Ids of all present images, rising, and for each the segment of its descriptor and the row in that segment."""
        batches = self.batches()
        if not batches:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        image_ids = np.concatenate([batch.image_ids for batch in batches])
        segments = np.concatenate([np.full(len(batch.image_ids), batch.segment) for batch in batches])
        rows = np.concatenate([batch.first + np.arange(len(batch.image_ids)) for batch in batches])
        order = np.argsort(image_ids, kind="stable")
        order = order[~np.isin(image_ids[order], self.removed(), kind="sort")]
        return image_ids[order], segments[order], rows[order]

    def segments(self) -> dict[int, int]:
        """Rows of each segment by its number."""
        return dict(self.connection.execute("SELECT number, rows FROM segments ORDER BY number"))

    def batches(self) -> list[DescriptorBatch]:
        """All batches, in the order of segments and rows."""
        found = self.connection.execute("SELECT segment, first, images, digest FROM batches ORDER BY segment, first")
        return [
            DescriptorBatch(segment, first, np.frombuffer(image_ids, dtype="<i8"), digest)
            for segment, first, image_ids, digest in found
        ]

    def stored_images(self) -> Iterator[StoredImage]:
        """All images, also the removed ones, by id."""
        found = self.connection.execute(
            "SELECT id, path, label, metadata, hash, bytes, modified, state FROM images ORDER BY id"
        )
        return (StoredImage(row[0], FileFacts(*row[1:7]), row[7] == "present") for row in found)

    def facts(self, image_id: int) -> FileFacts | None:
        """The facts of an image's file; None where it is not known."""
        row = self.connection.execute(
            "SELECT path, label, metadata, hash, bytes, modified FROM images WHERE id = ?", [image_id]
        ).fetchone()
        return None if row is None else FileFacts(*row)

    def paths(self) -> dict[str, int]:
        """Id of each present image by its path."""
        return dict(self.connection.execute("SELECT path, id FROM images WHERE state = 'present'"))

    def ids_below(self, path: str) -> list[int]:
        """Ids of the present image at a path, or of those in the folder of that name."""
        after = chr(ord("/") + 1)
        found = self.connection.execute(
            "SELECT id FROM images WHERE state = 'present' AND path = ?1 "
            "UNION SELECT id FROM images WHERE state = 'present' AND path > ?1 || '/' AND path < ?1 || ?2",
            [path, after],
        )
        return [image_id for (image_id,) in found]

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that could not be read, by path."""
        return list(self.connection.execute("SELECT path, reason FROM unreadable ORDER BY path"))

    # What follows changes it, and wants a transaction around.

    def next_segment(self) -> int:
        """A number that no segment has had."""
        return 1 + self._number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'segments'), 0)")

    def add_batch(self, batch: DescriptorBatch) -> None:
        """Makes the rows of a batch count."""
        count = len(batch.image_ids)
        self.connection.execute(
            "INSERT INTO segments VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET rows = rows + ?2",
            [batch.segment, count],
        )
        image_ids = np.ascontiguousarray(batch.image_ids, dtype="<i8").tobytes()
        self.connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?)", [batch.segment, batch.first, count, image_ids, batch.digest]
        )

    def add_images(self, images: Sequence[NewImage]) -> ImageIds:
        """Adds images and returns their ids; one that is present at the path of one of them is removed."""
        self._remove_at_paths(image.facts.path for image in images)
        first = 1 + self._number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'images'), -1)")
        self.connection.executemany(
            "INSERT INTO images (id, path, label, metadata, hash, bytes, modified, width, height, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'present')",
            ((image_id, *image.facts, image.width, image.height) for image_id, image in enumerate(images, first)),
        )
        return np.arange(first, first + len(images))

    def add_unreadable(self, files: Sequence[tuple[str, str]]) -> None:
        """Notes (path, reason) of files that could not be read; what was known under such a path is removed."""
        self._remove_at_paths(path for path, _ in files)
        self.connection.executemany("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", files)

    def remove(self, image_ids: Iterable[int]) -> None:
        """Marks images as removed; they keep their room until the index is compacted."""
        marked = ([image_id] for image_id in image_ids)
        self.connection.executemany("UPDATE images SET state = 'removed' WHERE id = ?", marked)

    def update_files(self, files: Sequence[tuple[int, FileFacts]]) -> None:
        """Gives images new facts and makes them present; others at their paths are removed. Paths may swap.

        Args:
            files: image id and new facts of each image.
        """
        self.remove(image_id for image_id, _ in files)
        self._remove_at_paths(facts.path for _, facts in files)
        self.connection.executemany(
            "UPDATE images SET path = ?, label = ?, metadata = ?, hash = ?, bytes = ?, modified = ?, "
            "state = 'present' WHERE id = ?",
            ((*facts, image_id) for image_id, facts in files),
        )

    def forget_unreadable(self, paths: Iterable[str]) -> None:
        """Takes files off the list of those that could not be read."""
        self.connection.executemany("DELETE FROM unreadable WHERE path = ?", ((path,) for path in paths))

    def forget_removed(self, segments: Iterable[int]) -> None:
        """Forgets the images that were removed, and these segments."""
        self.connection.execute("DELETE FROM images WHERE state = 'removed'")
        for table, column in (("batches", "segment"), ("segments", "number")):
            self.connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", ([number] for number in segments))

    def set_config(self, config: IndexConfig) -> None:
        """Replaces the configuration."""
        self.connection.execute("UPDATE about SET description = ?", [json.dumps(asdict(config))])

    def _remove_at_paths(self, paths: Iterable[str]) -> None:
        """Marks what is present at these paths as removed, and forgets that a file there could not be read."""
        gone = [(path,) for path in paths]
        self.connection.executemany("UPDATE images SET state = 'removed' WHERE path = ? AND state = 'present'", gone)
        self.connection.executemany("DELETE FROM unreadable WHERE path = ?", gone)

    def _number(self, query: str) -> int:
        (number,) = self.connection.execute(query).fetchone()
        return int(number)
