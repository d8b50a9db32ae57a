"""A folder of files whose content is a text, and checks of an index of it."""

from pathlib import Path
from typing import Any

import numpy as np

from glam.datasets.readers import read_folder
from glam.index import Index, SyncReport, sync, verify
from glam.index.limits import DEFAULT_LIMITS, IndexLimits

COUNT = 12
"""Number of files in the fixture ``folder``."""


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode())


def synced(index: Path, folder: Path, model: Any, limits: IndexLimits = DEFAULT_LIMITS) -> SyncReport:
    """Syncs, and checks that the index matches the folder: each file once, with the descriptor of its content."""
    report = sync(index, read_folder(folder), lambda: model, limits=limits)
    check(index, folder, model)
    return report


def check(index: Path, folder: Path, model: Any) -> None:
    files = {image.path: image.landmark for image in read_folder(folder).images}
    with Index.open(index) as opened:
        entries = opened.entries(opened.image_ids.tolist())
        readable = {path: landmark for path, landmark in files.items() if path not in dict(opened.unreadable())}
        assert {entry.path: entry.landmark for entry in entries} == readable
        assert len(entries) == len(readable)
        for entry in entries:
            expected = model.descriptor((folder / entry.path).read_bytes())
            np.testing.assert_array_equal(opened.descriptor(entry.image_id), expected)
            assert opened.search(expected, k=1)[0][0].entry == entry
    found = verify(index, lambda: model)
    assert (found.problems, found.clean) == ((), True)
