"""Google Landmarks v2 (Weyand et al., CVPR 2020, arXiv 2004.01804) and its clean part (Yokoo et al., arXiv 2003.11211).

Both tables are read in their published form. No image file is opened, because there are millions of them: the path
follows from the id, as in ``0/1/2/0123456789abcdef.jpg`` for ``0123456789abcdef``.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from glam.datasets.collection import Collection, ImageFile
from glam.datasets.tables import header_of, open_text
from glam.errors import GlamError

CLEAN_HEADER = ["landmark_id", "images"]
"""Columns of ``train_clean.csv``; ``images`` holds ids separated by spaces."""
FULL_HEADER = ["id", "url", "landmark_id"]
"""Columns of ``train.csv``."""


def read_gldv2(table: Path) -> Collection:
    """Reads ``train_clean.csv`` or ``train.csv``, recognized by the header line.

    Args:
        table: the CSV file. The images are in the folder ``train`` next to it or, without one, in the folder of the
            table.

    Raises:
        GlamError: the file cannot be read, is neither table, or has a malformed line.
    """
    header = header_of(table)
    if header not in (CLEAN_HEADER, FULL_HEADER):
        raise GlamError(
            f"{table} has the columns {header}, which are neither those of train_clean.csv nor those of train.csv of "
            "Google Landmarks v2. Download the table again: `glam data download gldv2 FOLDER`."
        )
    rows = _clean_rows(table) if header == CLEAN_HEADER else _full_rows(table)
    folder = table.parent / "train"
    root = folder if folder.is_dir() else table.parent
    return Collection(root, tuple(ImageFile(_path(id, table), landmark) for id, landmark in rows))


def _clean_rows(table: Path) -> Iterator[tuple[str, str]]:
    """Yields (id, landmark) of each image.

    The csv module is not used: it refuses fields of more than 131,072 characters, the ids of 7,710 images.
    """
    with open_text(table) as text:
        lines = enumerate(text, start=1)
        next(line for _, line in lines if line.strip())
        for number, line in lines:
            landmark, comma, images = line.rstrip("\r\n").partition(",")
            if not comma:
                if not line.strip():
                    continue
                raise GlamError(f"{table}: line {number} has no list of images. Download the table again.")
            for id in images.split():
                yield id, landmark


def _full_rows(table: Path) -> Iterator[tuple[str, str]]:
    with open_text(table) as text:
        rows = csv.reader(text)
        next(row for row in rows if row)
        for row in rows:
            if len(row) != len(FULL_HEADER):
                if not "".join(row).strip():
                    continue
                raise GlamError(
                    f"{table}: line {rows.line_num} has {len(row)} of {len(FULL_HEADER)} columns. "
                    "Download the table again."
                )
            yield row[0], sys.intern(row[2])


def _path(id: str, table: Path) -> str:
    if len(id) < 3 or not id.isalnum():
        raise GlamError(f"{table}: {id!r} is not the id of an image. Download the table again.")
    return f"{id[0]}/{id[1]}/{id[2]}/{id}.jpg"
