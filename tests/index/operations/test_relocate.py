"""`relocate`: an index follows its images to another folder, and to no other."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from glam.datasets.collection import ScanOptions
from glam.datasets.readers import read_collection, read_folder
from glam.errors import GlamError
from glam.index import Index, build, info, relocate, sync
from glam.index.storage.migrations import open_catalog
from tests.refusal import refuse

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "old"
    for i in range(COUNT):
        (root / str(i % 4)).mkdir(parents=True, exist_ok=True)
        (root / str(i % 4) / f"{i}.jpg").write_text(f"content {i}")
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any) -> Path:
    build(tmp_path / "i.glam", read_folder(folder), content_model)
    return tmp_path / "i.glam"


def test_a_moved_folder_is_followed_and_nothing_is_described(index: Path, folder: Path, tmp_path: Path) -> None:
    new = folder.rename(tmp_path / "new")
    report = relocate(index, new)
    assert (report.former, report.root) == (str(folder), str(new))
    assert (report.checked, report.matching, report.missing) == (32, 32, 0)
    assert sync(index, read_folder(new), lambda: pytest.fail("the model was loaded")).unchanged == COUNT
    with Index.open(index) as opened:
        assert opened.file(0).is_file()


def test_a_copy_is_followed_while_the_former_folder_is_there(index: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert relocate(index, tmp_path / "copy").matching == 32
    assert info(index).root == str(tmp_path / "copy")


def test_some_deleted_and_edited_files_do_not_matter(index: Path, folder: Path, tmp_path: Path) -> None:
    new = folder.rename(tmp_path / "new")
    for i in range(0, 12):
        (new / str(i % 4) / f"{i}.jpg").unlink()
    (new / "0" / "12.jpg").write_text("edited")
    report = relocate(index, new, sample=COUNT)
    assert (report.matching, report.missing) == (COUNT - 13, 12)


@pytest.mark.parametrize("content", ["other con {}", None])
def test_a_folder_with_other_or_no_files_is_refused(
    index: Path, folder: Path, tmp_path: Path, content: str | None
) -> None:
    other = tmp_path / "other"
    for i in range(COUNT):
        (other / str(i % 4)).mkdir(parents=True, exist_ok=True)
        if content is not None:
            (other / str(i % 4) / f"{i}.jpg").write_text(content.format(i))
    before = {file: file.read_bytes() for file in index.rglob("*") if file.is_file()}
    numbers = "32 are missing, 0 differ" if content is None else "0 are missing, 32 differ"
    with pytest.raises(GlamError, match=numbers):
        relocate(index, other)
    assert before == {file: file.read_bytes() for file in index.rglob("*") if file.is_file()}
    shutil.rmtree(folder)
    if content is not None:
        with pytest.raises(GlamError, match="is an index of"):
            sync(index, read_folder(other), lambda: pytest.fail("the model was loaded"))


def test_the_sample_is_spread_over_the_index(index: Path, folder: Path, tmp_path: Path) -> None:
    """The images of the last folder have the last ids: the first 21 files alone would say that nothing is missing."""
    new = folder.rename(tmp_path / "new")
    shutil.rmtree(new / "3")
    assert relocate(index, new, sample=21).missing == pytest.approx(21 / 4, abs=1)


def test_files_that_the_system_refuses_are_not_missing(
    index: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = folder.rename(tmp_path / "new")
    refuse(monkeypatch, "open", lambda path: path.parent.name in refusing)
    refusing = {"0"}
    report = relocate(index, new, sample=COUNT)
    assert (report.matching, report.missing, report.inaccessible) == (COUNT * 3 // 4, 0, COUNT // 4)
    refusing = {"0", "1", "2"}
    with pytest.raises(GlamError, match=f"0 are missing, 0 differ, and {COUNT * 3 // 4} cannot be read"):
        relocate(index, new, sample=COUNT)


def test_a_former_folder_that_the_system_refuses_is_not_gone(
    index: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync follows a folder by itself only if the former one is gone."""
    new = folder.rename(tmp_path / "new")
    refuse(monkeypatch, "stat", folder)
    with pytest.raises(GlamError, match=f"is an index of {folder}, not of {new}.*glam index relocate {index} {new}"):
        sync(index, read_folder(new), lambda: pytest.fail("the model was loaded"))
    monkeypatch.undo()
    assert sync(index, read_folder(new), lambda: pytest.fail("the model was loaded")).unchanged == COUNT
    assert info(index).root == str(new)


def test_images_without_a_hash_match_unless_they_are_newer(index: Path, folder: Path, tmp_path: Path) -> None:
    """As in an index of schema version 1, which has the time of the descriptors alone."""
    catalog = open_catalog(index)
    catalog.connection.execute("UPDATE images SET hash = '', bytes = -1")
    catalog.close()
    (index / "checksums.json").unlink()
    new = folder.rename(tmp_path / "new")
    assert relocate(index, new).matching == 32
    for file in new.rglob("*.jpg"):
        os.utime(file, ns=(1 << 62, 1 << 62))
    with pytest.raises(GlamError, match="0 are missing, 32 differ"):
        relocate(index, new)


def test_a_folder_that_is_not_there_is_one_sentence(index: Path, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="no such folder"):
        relocate(index, tmp_path / "nowhere")


def test_a_list_in_the_folder_moves_with_it(folder: Path, tmp_path: Path, content_model: Any) -> None:
    (folder / "mine.csv").write_text("path,landmark\n0/0.jpg,tower\n1/1.jpg,gate\n")
    index = tmp_path / "listed.glam"
    build(index, read_collection(folder / "mine.csv"), content_model)
    new = folder.rename(tmp_path / "new")
    relocate(index, new)
    assert info(index).source == str(new / "mine.csv")


def test_a_link_at_the_former_place_is_the_folder(index: Path, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "new")
    folder.symlink_to(tmp_path / "new")
    assert sync(index, read_folder(folder), lambda: pytest.fail("the model was loaded")).unchanged == COUNT


def test_the_options_of_the_scan_are_kept(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index, options = tmp_path / "o.glam", ScanOptions(exclude=("/0/",), landmark_from="none")
    (folder / "film.mov").touch()
    build(index, read_folder(folder, options), content_model)
    catalog = open_catalog(index)
    source = catalog.config.source
    catalog.close()
    assert source is not None
    assert (source.path, source.exclude, source.landmark_from) == (".", ("/0/",), "none")
    assert info(index).skipped.formats == {".mov": 1}
    (folder / "film.mov").unlink()
    sync(index, read_folder(folder, options), lambda: pytest.fail("the model was loaded"))
    assert info(index).skipped.formats == {}
