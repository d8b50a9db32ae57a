"""Manifests: CSV files that list images with their landmarks, shapes, and metadata."""

import csv
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from glam.atomic_file import atomic_write
from glam.datasets.collection import NO_METADATA, Collection, ImageFile, Value
from glam.datasets.tables import csv_rows, open_text, safe_path
from glam.errors import GlamError

COLUMNS = ("path", "landmark", "width", "height")

DEPRECATED_LANDMARK = "label"
"""Former name of the column ``landmark``, read if the header has no ``landmark``."""

_Shape = tuple[int, int]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")


def read_manifest(manifest: Path, root: Path | None = None) -> Collection:
    """Reads a manifest.

    The column ``path`` is required; ``landmark``, ``width``, and ``height`` (pixels of the upright image) are optional.
    All other columns become metadata: empty fields are skipped, and numbers are converted. ``label`` is a deprecated
    name of ``landmark``. Blank lines are skipped, and of equal paths the last line counts.

    Args:
        manifest: the CSV file, UTF-8, with a header line.
        root: folder that the paths are relative to; by default the folder of the manifest.

    Raises:
        GlamError: the file cannot be read, has no column ``path`` or two columns of one name, or has a line with
            missing or extra columns, an invalid size, a path that leads out of the root, or a path that an earlier line
            gives another landmark.
    """
    root = root or manifest.parent
    with open_text(manifest) as text:
        rows = csv_rows(text, manifest)
        header = _header(next((row for _, row in rows), []), manifest)
        indices = [header.index(column) if column in header else -1 for column in COLUMNS]
        others = [(index, name) for index, name in enumerate(header) if name and name not in COLUMNS]
        shapes: dict[_Shape, _Shape] = {}
        images: dict[str, ImageFile] = {}
        for line, row in rows:
            if len(row) != len(header):
                raise GlamError(
                    f"{manifest}: line {line} has {len(row)} of {len(header)} columns. "
                    "Add the missing fields, which may be empty, and put a field with a comma in quotes."
                )
            path, landmark, width, height = [row[index] if index >= 0 else "" for index in indices]
            path = safe_path(path.rstrip(" ").replace("\\", "/"), f"{manifest}: line {line}", root)
            landmark = landmark.rstrip(" ")
            shape = _shape(width, height, manifest, line)
            if shape is not None:
                shape = shapes.setdefault(shape, shape)  # equal shapes share memory; few are distinct
            if path in images and images[path].landmark != landmark:
                raise GlamError(
                    f"{manifest}: line {line} gives {path} the landmark {landmark!r}, and an earlier line gives it "
                    f"{images[path].landmark!r}. Remove one of the lines."
                )
            metadata = {name: _value(row[index]) for index, name in others if row[index]} or NO_METADATA
            images[path] = ImageFile(path, sys.intern(landmark), shape, metadata)
    return Collection(root, tuple(images.values()))


def _header(names: list[str], manifest: Path) -> list[str]:
    """The column names of a header line, without surrounding spaces and with ``landmark`` by its current name.

    Raises:
        GlamError: there is no column ``path``, or two columns have the same name.
    """
    header = [name.strip() for name in names]
    if not header:
        raise GlamError(f"{manifest} is empty. Write a header line with a column 'path', and a line per image.")
    if "path" not in header:
        raise GlamError(f"{manifest} has no column 'path', only {header}. Add a header line with 'path' in it.")
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise GlamError(f"{manifest} has two columns {twice!r}. Rename or remove one of them.")
    if "landmark" in header:
        return header
    return ["landmark" if name == DEPRECATED_LANDMARK else name for name in header]


def write_rows(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file with a header line, atomically.

    Args:
        file: path of the file.
        columns: names in the header line.
        rows: fields of each line, in the order of ``columns``.
    """
    with atomic_write(file, on_disk=True) as partial, partial.open("w", newline="", encoding="utf-8") as text:
        plain = csv.writer(text, lineterminator="\n")
        quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in chain([columns], rows):
            # The csv module of Python 3.11 leaves leading spaces and CR bare, which a reader would drop.
            bare = any(isinstance(field, str) and (field[:1] == " " or "\r" in field) for field in row)
            (quoted if bare else plain).writerow(row)


def _value(field: str) -> Value:
    """Converts a field to a number if it is written in plain decimal notation; 007 and 1e5 stay text."""
    if not _NUMBER.fullmatch(field):
        return field
    return float(field) if "." in field else int(field)


def _shape(width: str, height: str, manifest: Path, line: int) -> _Shape | None:
    if not width and not height:
        return None
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise GlamError(
            f"{manifest}: line {line}: {width!r} x {height!r} is not a size in pixels. "
            "Write two whole numbers above 0, or leave both fields empty."
        )
    return int(width), int(height)
