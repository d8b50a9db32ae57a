"""Files and folders that the system refuses to read keep what an index knows of them; those that vanish do not."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from glam.datasets.collection import Skipped
from glam.datasets.readers import read_collection, read_folder
from glam.index import Index, SyncReport, build, sync
from tests.index.operations.photos import COUNT, synced, write
from tests.refusal import refuse


def vanish(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    """Deletes files when a run opens one of them: after the scan."""
    usual = os.open

    def vanished(name: Any, *arguments: Any, **options: Any) -> Any:
        if Path(name) in files:
            Path(name).unlink(missing_ok=True)
        return usual(name, *arguments, **options)

    monkeypatch.setattr(os, "open", vanished)


def test_a_folder_that_cannot_be_listed_keeps_its_images(
    index: Path, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "new.jpg", "brand new")
    refuse(monkeypatch, "scandir", folder / "place 1", errno.EIO)
    report = sync(index, read_folder(folder), lambda: content_model)
    refused = (("place 1", "input/output error"),)
    assert report == SyncReport(1, 0, 0, 0, COUNT, (), inaccessible=refused, skipped=Skipped(unlisted=refused))
    monkeypatch.undo()
    assert synced(index, folder, content_model).unchanged == COUNT + 1


@pytest.mark.parametrize(
    ("content", "opened_before"), [("other con 0", 0), ("other content of another size", 0), ("other con 0", 1)]
)
def test_a_changed_file_that_cannot_be_opened_just_now_keeps_its_image(
    index: Path, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch, content: str, opened_before: int
) -> None:
    """Neither when sync compares it nor, if it can be opened once, when it is described."""
    file = folder / "place 0" / "0.jpg"
    write(file, content)
    opened: list[Path] = []

    def refused(path: Path) -> bool:
        opened.extend([path] * (path == file))
        return path == file and len(opened) > opened_before

    refuse(monkeypatch, "open", refused, errno.EIO)
    report = sync(index, read_folder(folder), lambda: content_model)
    assert report == SyncReport(0, 0, 0, 0, COUNT, (), inaccessible=(("place 0/0.jpg", "input/output error"),))
    monkeypatch.undo()
    assert synced(index, folder, content_model).changed == 1


def test_a_new_file_that_the_system_refuses_is_reported_and_the_rest_is_added(
    index: Path, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "refused.jpg", "refused for now")
    write(folder / "new.jpg", "brand new")
    refuse(monkeypatch, "open", folder / "refused.jpg", errno.EIO)
    report = sync(index, read_folder(folder), lambda: content_model)
    assert (report.added, report.unchanged, report.unreadable) == (1, COUNT, ())
    assert report.inaccessible == (("refused.jpg", "input/output error"),)
    monkeypatch.undo()
    assert synced(index, folder, content_model).added == 1


def test_unreadable_files_below_a_folder_that_cannot_be_listed_stay_listed(
    index: Path, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "place 1" / "bad.jpg", "broken")
    synced(index, folder, content_model)
    refuse(monkeypatch, "scandir", folder / "place 1", errno.EIO)
    sync(index, read_folder(folder), lambda: content_model)
    with Index.open(index) as opened:
        assert opened.unreadable() == [("place 1/bad.jpg", "broken")]


def test_files_that_vanish_after_the_scan_are_gone_and_no_errors(
    index: Path, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, changed = folder / "new.jpg", folder / "place 0" / "0.jpg"
    write(new, "brand new")
    write(changed, "changed, and of another size")
    vanish(monkeypatch, new, changed)
    report = synced(index, folder, content_model)
    assert report == SyncReport(added=0, changed=0, moved=0, removed=1, unchanged=COUNT - 1, unreadable=())
    with Index.open(index) as opened:
        assert opened.unreadable() == []


def test_a_build_leaves_out_what_vanishes_after_the_scan(
    folder: Path, tmp_path: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanish(monkeypatch, folder / "place 0" / "0.jpg")
    report = build(tmp_path / "v.glam", read_folder(folder), content_model)
    assert (report.added, report.unreadable, report.inaccessible) == (COUNT - 1, (), ())


def test_a_listed_file_that_does_not_exist_is_reported(folder: Path, tmp_path: Path, content_model: Any) -> None:
    manifest, index = folder / "list.csv", tmp_path / "m.glam"
    manifest.write_text("path\nplace 0/0.jpg\nplace 0/3.jpg\nnone.jpg\n")
    none = ("none.jpg", "no such file")
    report = build(index, read_collection(manifest), content_model)
    assert (report.added, report.unreadable) == (2, (none,))
    (folder / "place 0" / "0.jpg").unlink()
    report = sync(index, read_collection(manifest), lambda: content_model)
    assert (report.removed, report.unchanged, report.inaccessible) == (1, 1, ())
    assert set(report.unreadable) == {none, ("place 0/0.jpg", "no such file")}
