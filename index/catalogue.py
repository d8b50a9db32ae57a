"""The catalogue: what is in an index, in SQLite. Row i of the descriptors belongs to the image with id i."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from glam.errors import GlamError

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE about (description TEXT NOT NULL);
CREATE TABLE images (
    id INTEGER PRIMARY KEY,            -- row of the descriptors, from 0 without gaps
    path TEXT NOT NULL UNIQUE,         -- relative to the root, forward slashes
    label TEXT NOT NULL,               -- landmark, '' where it is not known
    width INTEGER NOT NULL,            -- pixels, upright
    height INTEGER NOT NULL
);
CREATE TABLE unreadable (
    path TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class About:
    """What an index was built with.

    Attributes:
        model: what the model was loaded by.
        fingerprint: of the model; descriptors of another do not fit.
        dim: length of a descriptor.
        size: longest side in pixels at which images were described.
        scales: that were averaged.
        root: folder that the images' paths are relative to.
    """

    model: str
    fingerprint: str
    dim: int
    size: int
    scales: tuple[float, ...]
    root: str


@dataclass(frozen=True)
class Entry:
    """One image of an index.

    Attributes:
        id: row of its descriptor.
        path: relative to the index's root, with forward slashes.
        label: the landmark it shows, empty where that is not known.
        width, height: in pixels, upright.
    """

    id: int
    path: str
    label: str
    width: int
    height: int


class Catalogue:
    """The catalogue of one index. One thread at a time may use it; `glam.index.search.Index` sees to that."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def create(cls, path: Path, about: About) -> "Catalogue":
        """Makes an empty catalogue; the file must not exist."""
        connection = _connect(path)
        with connection:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
            connection.execute("INSERT INTO about VALUES (?)", [json.dumps(asdict(about))])
        return cls(connection)

    @classmethod
    def open(cls, path: Path) -> "Catalogue":
        """Opens a catalogue.

        Raises:
            GlamError: it is not there, is no catalogue, or was written by a newer version.
        """
        if not path.is_file():
            raise GlamError(f"{path.parent}: no index there")
        try:
            connection = _connect(path)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise GlamError(f"{path}: not an index's catalogue ({error})") from error
        if version != SCHEMA_VERSION:
            raise GlamError(f"{path}: schema version {version}; this version of glam reads {SCHEMA_VERSION}")
        return cls(connection)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    @property
    def about(self) -> About:
        """What the index was built with."""
        (text,) = self._connection.execute("SELECT description FROM about").fetchone()
        values = json.loads(text)
        return About(**{**values, "scales": tuple(values["scales"])})

    def __len__(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM images").fetchone()
        return int(count)

    def add(self, entries: Sequence[Entry], unreadable: Iterable[tuple[str, str]]) -> None:
        """Adds a batch in one transaction: images, and (path, reason) of files that could not be read."""
        with self._connection:
            self._connection.executemany("DELETE FROM unreadable WHERE path = ?", ([e.path] for e in entries))
            self._connection.executemany(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?)",
                ((e.id, e.path, e.label, e.width, e.height) for e in entries),
            )
            self._connection.executemany("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", unreadable)

    def entry(self, image: int) -> Entry:
        """The image with this id.

        Raises:
            KeyError: there is none.
        """
        row = self._connection.execute("SELECT * FROM images WHERE id = ?", [image]).fetchone()
        if row is None:
            raise KeyError(image)
        return Entry(*row)

    def entries(self) -> Iterator[Entry]:
        """All images by id."""
        return (Entry(*row) for row in self._connection.execute("SELECT * FROM images ORDER BY id"))

    def paths(self) -> set[str]:
        """Paths of all images."""
        return {path for (path,) in self._connection.execute("SELECT path FROM images")}

    def landmark_count(self) -> int:
        """How many landmarks are named."""
        (count,) = self._connection.execute("SELECT count(DISTINCT label) FROM images WHERE label != ''").fetchone()
        return int(count)

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that could not be read, by path."""
        return list(self._connection.execute("SELECT path, reason FROM unreadable ORDER BY path"))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection
