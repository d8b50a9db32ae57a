"""The source of an index: it is read again as it was read before, and what is gone or refused is said."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glam.datasets.collection import Collection, ScanOptions
from glam.errors import GlamError
from glam.index import build, info, read_source, sync, verify
from glam.index.operations.source import read_images, recorded_source
from tests.refusal import refuse

MANIFEST = "path,landmark,city\na/1.jpg,tower,Rome\nb/2.jpg,gate,Bonn\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("a/1.jpg", "b/2.jpg", "b/drafts/3.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(collection: Collection) -> dict[str, str]:
    """The landmark of each image, by its path."""
    return {image.path: image.landmark for image in collection.images}


def test_the_folder_and_the_options_are_those_of_the_build(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "i.glam"
    assert recorded_source(index) is None
    build(index, read_images(folder, ScanOptions(exclude=("drafts/",), landmark_from="parent")), content_model)
    assert recorded_source(index) == folder
    again = read_source(index)
    assert names(again) == {"a/1.jpg": "a", "b/2.jpg": "b"}
    assert again.options == ScanOptions(("drafts/",), within_root=True, landmark_from="parent")


def test_names_that_are_not_utf_8_are_recorded_and_read_again(tmp_path: Path, content_model: Any) -> None:
    root, pattern = tmp_path / os.fsdecode(b"photos \xe9"), os.fsdecode(b"drafts \xff/")
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.jpg").write_text("1")
    index = tmp_path / os.fsdecode(b"index \xe9.glam")
    build(index, read_images(root, ScanOptions(exclude=(pattern,))), content_model)
    found = info(index)
    assert (found.root, found.source, found.exclude) == (str(root), str(root), (pattern,))
    again = read_source(index)
    assert sync(index, again, lambda: content_model).unchanged == 1
    assert verify(index).problems == ()


def test_a_folder_names_no_landmarks_unless_asked_and_a_list_does(folder: Path) -> None:
    assert set(names(read_images(folder)).values()) == {""}
    (folder / "manifest.csv").write_text(MANIFEST)
    assert names(read_images(folder)) == {"a/1.jpg": "tower", "b/2.jpg": "gate"}


def test_options_that_are_given_replace_the_recorded_ones(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "i.glam"
    build(index, read_images(folder, ScanOptions(exclude=("drafts/",))), content_model)
    given = read_source(index, exclude=["a/", ""], follow_links=True, landmark_from="folder")
    assert names(given) == {"b/2.jpg": "b", "b/drafts/3.jpg": "b/drafts"}
    sync(index, given, lambda: content_model)
    recorded = read_source(index).options
    assert recorded == ScanOptions(("a/",), follow_links=True, within_root=True, landmark_from="folder")
    assert len(read_source(index, exclude=[""])) == 3


def test_a_folder_that_gets_a_list_is_read_by_it(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "i.glam"
    build(index, read_images(folder), content_model)
    (folder / "manifest.csv").write_text(MANIFEST)
    assert names(read_source(index)) == {"a/1.jpg": "tower", "b/2.jpg": "gate"}


def test_a_list_that_is_gone_is_an_error_and_not_a_folder(folder: Path, tmp_path: Path, content_model: Any) -> None:
    """A sync with the folder would overwrite the landmarks and metadata of the list, and add images."""
    index = tmp_path / "i.glam"
    (folder / "manifest.csv").write_text(MANIFEST)
    build(index, read_images(folder), content_model)
    (folder / "manifest.csv").unlink()
    with pytest.raises(GlamError, match="no longer has the list that"):
        read_source(index)
    assert len(read_source(index, landmark_from="none")) == 3


@pytest.mark.parametrize("listed", [False, True])
def test_an_index_of_an_earlier_version_keeps_its_landmarks(
    folder: Path, tmp_path: Path, content_model: Any, listed: bool
) -> None:
    """It names them by folder, or by the list in the folder, and did not record which."""
    index = tmp_path / "i.glam"
    if listed:
        (folder / "manifest.csv").write_text(MANIFEST)
    before = read_images(folder, ScanOptions(landmark_from="manifest" if listed else "folder"))
    build(index, replace(before, source=None), content_model)
    assert info(index).landmark_from == ""
    assert names(read_source(index)) == names(before)


def test_a_folder_that_the_system_refuses_is_not_gone(
    folder: Path, tmp_path: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "i.glam"
    build(index, read_images(folder), content_model)
    refuse(monkeypatch, "stat", lambda path: path.is_relative_to(folder))
    with pytest.raises(GlamError, match=f"{folder} cannot be opened: permission denied"):
        read_source(index)


def test_files_that_the_system_refuses_to_look_at_are_not_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "stat", lambda path: path.suffix == ".jpg")
    assert len(read_images(folder)) == 3


def test_a_text_whose_lines_are_no_paths_lists_no_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 300 + "\nbuy milk\n")
    with pytest.raises(GlamError, match="lists no file that exists"):
        read_images(tmp_path / "notes.txt")
