"""Two writers never meet, even if somebody deletes the lock while one of them is active."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glam.errors import GlamError
from glam.index import Index, verify
from glam.index.limits import IndexLimits
from glam.index.storage import segments
from glam.index.storage.catalog import Catalog
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.lock import LOCK, InUseError, LockLostError
from glam.index.storage.records import FileFacts, IndexConfig
from glam.index.types import Descriptors
from glam.index.writer import ImageToAdd, Writer, open_writer

DIM = 4
CONFIG = IndexConfig("model", "f" * 16, DIM, 64, (1.0,), "/photos")
LIMITS = IndexLimits(save_exact=True, added_in_memory=0)


def images(name: str, axis: int) -> list[ImageToAdd]:
    """Three images whose descriptors are the unit vector of an axis."""
    facts = [FileFacts(f"{name}{i}.jpg", "", "{}", f"{i:032x}", 1, 1) for i in range(3)]
    return [ImageToAdd(fact, 64, 48, np.eye(DIM, dtype=np.float32)[axis]) for fact in facts]


def first_letters(index: Path) -> dict[str, int]:
    """Number of images by the first letter of their names, each of which has the right descriptor."""
    axes = {"a": 0, "b": 1, "c": 2}
    found = dict.fromkeys(axes, 0)
    with Index.open(index, limits=LIMITS) as opened:
        for entry in opened.entries(opened.image_ids.tolist()):
            assert int(opened.descriptor(entry.image_id).argmax()) == axes[entry.path[0]], entry.path
            found[entry.path[0]] += 1
    return found


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with open_writer(tmp_path / "i.glam", CONFIG, LIMITS) as writer:
        writer.add(images("a", 0))
    return tmp_path / "i.glam"


def write_b(index: Path) -> None:
    with open_writer(index, limits=LIMITS) as writer:
        writer.add(images("b", 1))


MOMENTS: dict[str, tuple[type | object, str]] = {
    "before the first change": (Writer, "begin_changes"),
    "before the rows": (Catalog, "segments"),
    "after the rows": (segments, "append"),
    "before the transaction": (Catalog, "add_images"),
    "before the structure": (Writer, "update_structure"),
    "before the end": (Writer, "seal"),
}
"""Functions around which the lock is deleted, and a second writer tries to work."""


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_writer_whose_lock_was_deleted_harms_no_other(
    moment: str, after: bool, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order they meet in: each of the two adds all of its images or raises an error."""
    place, name = MOMENTS[moment]
    real = getattr(place, name)
    second: list[str] = []

    def interrupted(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(place, name, real)
        result = real(*arguments, **options) if after else None
        with pytest.raises(InUseError, match="in use by process"):
            write_b(index)
        (index / LOCK).unlink()
        try:
            write_b(index)
            second.append("done")
        except InUseError:
            second.append("refused")
        return result if after else real(*arguments, **options)

    monkeypatch.setattr(place, name, interrupted)
    try:
        with open_writer(index, limits=LIMITS) as writer:
            writer.add(images("c", 2))
        first = "done"
    except LockLostError:
        first = "refused"
    assert len(second) == 1
    found = first_letters(index)
    assert found["a"] == 3
    assert found["b"] == (3 if second == ["done"] else 0)
    assert found["c"] in ((3,) if first == "done" else (0, 3))
    assert verify(index).problems == ()
    with open_writer(index, limits=LIMITS):
        pass
    assert first_letters(index) == found
    assert (verify(index).clean, verify(index).problems) == (True, ())


def write_c_without_lock(index: Path) -> None:
    with open_writer(index, limits=LIMITS) as writer:
        (index / LOCK).unlink()
        writer.add(images("c", 2))


def test_a_writer_whose_lock_was_deleted_stops_with_a_sentence(index: Path) -> None:
    with pytest.raises(
        LockLostError, match=r"lock was deleted while this command was writing, so it stopped\. .*again"
    ):
        write_c_without_lock(index)
    assert first_letters(index) == {"a": 3, "b": 0, "c": 0}
    assert not (index / CHECKSUMS).exists()


def test_a_second_writer_waits_only_seconds_for_one_without_lock(index: Path) -> None:
    with open_writer(index, limits=LIMITS) as writer, writer.catalog.exclusive():
        (index / LOCK).unlink()
        with pytest.raises(InUseError, match=r"Another process changes the catalog"):
            write_b(index)
        (index / LOCK).unlink()
    assert first_letters(index) == {"a": 3, "b": 0, "c": 0}


def test_rows_are_never_written_over_a_gap(index: Path) -> None:
    """A segment is never lengthened to where the catalog says that it ends."""
    rows: Descriptors = np.ones((2, DIM), np.float32)
    file = segments.segment_file(index, 1)
    change: Callable[[], None]
    for change in (lambda: file.write_bytes(file.read_bytes()[:-1]), file.unlink):
        change()
        with pytest.raises(GlamError, match="damaged"):
            segments.append(file, 3, rows)
    assert not file.exists()
