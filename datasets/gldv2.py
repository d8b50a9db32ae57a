"""Google Landmarks v2 (Weyand et al., CVPR 2020, arXiv 2004.01804) and its clean part (Yokoo et al., arXiv 2003.11211).

Both tables are read as they are published and no image file is looked at: of 1.6 million images, only the table is
opened. An image's file follows from its id: ``0123456789abcdef`` is ``0/1/2/0123456789abcdef.jpg``.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from glam.datasets.collection import Collection, ImageFile
from glam.datasets.tables import header_of, open_text
from glam.errors import GlamError

CLEAN_HEADER = ["landmark_id", "images"]
"""Columns of ``train_clean.csv``; the images are ids with blanks between them."""
FULL_HEADER = ["id", "url", "landmark_id"]
"""Columns of ``train.csv``."""


def read_gldv2(table: Path) -> Collection:
    """Reads ``train_clean.csv`` or ``train.csv``; which it is, its header says.

    The images are below the folder ``train`` beside the table, or else below the table's own folder.

    Raises:
        GlamError: there is no such file, it is neither table, or a line is not as it should be.
    """
    header = header_of(table)
    if header not in (CLEAN_HEADER, FULL_HEADER):
        raise GlamError(f"{table}: neither {CLEAN_HEADER} nor {FULL_HEADER} of Google Landmarks v2, but {header}")
    rows = _clean_rows(table) if header == CLEAN_HEADER else _full_rows(table)
    folder = table.parent / "train"
    root = folder if folder.is_dir() else table.parent
    return Collection(root, tuple(ImageFile(_path(id, table), landmark) for id, landmark in rows))


def _clean_rows(table: Path) -> Iterator[tuple[str, str]]:
    """(id, landmark) of each image. Not by the csv module, which refuses a field of more than 131,072 characters: the
    ids of 7,710 images."""
    with open_text(table) as text:
        next(text)
        for number, line in enumerate(text, start=2):
            landmark, comma, images = line.rstrip("\r\n").partition(",")
            if not comma:
                raise GlamError(f"{table}: line {number} has no list of images")
            for id in images.split():
                yield id, landmark


def _full_rows(table: Path) -> Iterator[tuple[str, str]]:
    with open_text(table) as text:
        rows = csv.reader(text)
        next(rows)
        for row in rows:
            if len(row) != len(FULL_HEADER):
                raise GlamError(f"{table}: line {rows.line_num} has {len(row)} of {len(FULL_HEADER)} columns")
            yield row[0], sys.intern(row[2])


def _path(id: str, table: Path) -> str:
    if len(id) < 3 or not id.isalnum():
        raise GlamError(f"{table}: {id!r} is not the id of an image")
    return f"{id[0]}/{id[1]}/{id[2]}/{id}.jpg"
