"""Manifests: CSV files that list images with their landmarks, shapes, and metadata."""

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
"""Former name of the column ``landmark``, read if the header has no ``landmark``."""

_Shape = tuple[int, int]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")


def read_manifest(manifest: Path, root: Path | None = None) -> Collection:
    """Reads a manifest.

    The column ``path`` is required; ``landmark``, ``width``, and ``height`` (pixels of the upright image) are optional.
    All other columns become metadata: empty fields are skipped, and numbers are converted. ``label`` is a deprecated
    name of ``landmark``.

    Args:
        manifest: the CSV file, UTF-8, with a header line.
        root: folder that the paths are relative to; by default the folder of the manifest.

    Raises:
        GlamError: the file cannot be read, has no column ``path``, or has a line with missing columns, an invalid size,
            or a path that leads out of the root.
    """
    with open_text(manifest) as text:
        rows = csv.reader(text)
        header = next(rows, [])
        if "path" not in header:
            raise GlamError(f"{manifest} has no column 'path', only {header}. Add a header line with 'path' in it.")
        if "landmark" not in header:
            header = ["landmark" if name == DEPRECATED_LANDMARK else name for name in header]
        indices = [header.index(column) if column in header else -1 for column in COLUMNS]
        others = [(index, name) for index, name in enumerate(header) if name and name not in COLUMNS]
        shapes: dict[_Shape, _Shape] = {}
        images = []
        for row in rows:
            if len(row) < len(header):
                raise GlamError(
                    f"{manifest}: line {rows.line_num} has {len(row)} of {len(header)} columns. "
                    "Add the missing fields; they may be empty."
                )
            path, landmark, width, height = [row[index] if index >= 0 else "" for index in indices]
            shape = _shape(width, height, manifest, rows.line_num)
            if shape is not None:
                shape = shapes.setdefault(shape, shape)  # equal shapes share memory; few are distinct
            metadata = {name: _value(row[index]) for index, name in others if row[index]} or NO_METADATA
            images.append(
                ImageFile(safe_path(path.replace("\\", "/"), manifest), sys.intern(landmark), shape, metadata)
            )
    return Collection(root or manifest.parent, tuple(images))


def write_rows(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file with a header line, atomically.

    Args:
        file: path of the file.
        columns: names in the header line.
        rows: fields of each line, in the order of ``columns``.
    """
    with atomic_write(file, on_disk=True) as partial, partial.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


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
