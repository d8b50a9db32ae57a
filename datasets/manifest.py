"""The manifest: a CSV file that lists images, so that nothing about them has to be found out from their files."""

import csv
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from glam.atomic_file import atomic_write
from glam.datasets.collection import NO_METADATA, Collection, ImageFile, Value
from glam.datasets.tables import open_text, safe_path
from glam.errors import GlamError

COLUMNS = ("path", "landmark", "width", "height")

DEPRECATED_LANDMARK = "label"
"""Former name of the column ``landmark``, read where the header has no ``landmark``."""

_Shape = tuple[int, int]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")


def read_manifest(manifest: Path, root: Path | None = None) -> Collection:
    """Reads a CSV file with a column ``path`` and, where they are known, ``landmark``, ``width`` and ``height`` (pixels
    of the upright image). Every other column is metadata, by its name: an empty field is left out, and what is written
    as a number is one. ``label`` is a deprecated name of ``landmark``.

    Args:
        manifest: the CSV file, UTF-8, with a header line.
        root: folder that the paths are relative to; the manifest's own folder by default.

    Raises:
        GlamError: there is no such file, it lacks the column ``path``, a line is too short or holds a size that is
            none, or a path leads out of the root.
    """
    with open_text(manifest) as text:
        rows = csv.reader(text)
        header = next(rows, [])
        if "path" not in header:
            raise GlamError(f"{manifest}: a manifest wants a column named 'path'; it has {header}")
        if "landmark" not in header:
            header = ["landmark" if name == DEPRECATED_LANDMARK else name for name in header]
        indices = [header.index(column) if column in header else -1 for column in COLUMNS]
        others = [(index, name) for index, name in enumerate(header) if name and name not in COLUMNS]
        shapes: dict[_Shape, _Shape] = {}
        images = []
        for row in rows:
            if len(row) < len(header):
                raise GlamError(f"{manifest}: line {rows.line_num} has {len(row)} of {len(header)} columns")
            path, landmark, width, height = [row[index] if index >= 0 else "" for index in indices]
            shape = _shape(width, height, manifest, rows.line_num)
            if shape is not None:
                shape = shapes.setdefault(shape, shape)  # few are distinct, so equal ones share their memory
            metadata = {name: _value(row[index]) for index, name in others if row[index]} or NO_METADATA
            images.append(
                ImageFile(safe_path(path.replace("\\", "/"), manifest), sys.intern(landmark), shape, metadata)
            )
    return Collection(root or manifest.parent, tuple(images))


def write_rows(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file with a header line; it appears whole or not at all."""
    with atomic_write(file, on_disk=True) as partial, partial.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _value(field: str) -> Value:
    """A field as a number where it is written as one; 007 and 1e5 are text."""
    if not _NUMBER.fullmatch(field):
        return field
    return float(field) if "." in field else int(field)


def _shape(width: str, height: str, manifest: Path, line: int) -> _Shape | None:
    if not width and not height:
        return None
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise GlamError(f"{manifest}: line {line}: {width!r} x {height!r} is not a size in pixels")
    return int(width), int(height)
