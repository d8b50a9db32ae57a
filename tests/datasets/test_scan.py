"""Folder scan: which names are images, and what is passed over, by reason."""

import errno
import os
from pathlib import Path

import pytest

from glam.datasets import scan
from glam.datasets.collection import Collection, LandmarkFrom, ScanOptions, Skipped
from glam.datasets.readers import LISTS, is_list, read_collection, read_folder
from glam.errors import GlamError
from tests.refusal import refuse


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def paths(collection: Collection) -> list[str]:
    return [image.path for image in collection.images]


def test_files_of_other_formats_are_counted_by_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a.MOV", "b.mov", "x/c.psd", "README", ".hidden.mov", "end.")
    collection = read_folder(tmp_path)
    assert paths(collection) == ["1.jpg"]
    assert collection.skipped.formats == {".mov": 2, ".psd": 1, "": 2}


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a.psd", "b.psd", "c")
    with pytest.raises(GlamError, match=r"no images \(skipped: 2 .psd, 1 without a suffix \(format not read\)\)"):
        read_collection(tmp_path)


def test_system_folders_and_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "@eaDir/1.jpg/THUMB.jpg", "#recycle/2.jpg", "__MACOSX/3.jpg", ".thumbnails/4.jpg")
    touch(tmp_path, "a/$RECYCLE.BIN/5.jpg", "Thumbs.db", "._1.jpg")
    collection = read_folder(tmp_path)
    assert paths(collection) == ["1.jpg"]
    assert (collection.skipped.excluded, collection.skipped.formats) == (5, {})


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("*.png",), ["1.jpg", "a/1.jpg", "a/b/1.jpg", "b/1.jpg"]),
        (("b/",), ["1.jpg", "a/1.jpg", "a/2.png"]),
        (("/b",), ["1.jpg", "a/1.jpg", "a/2.png", "a/b/1.jpg"]),
        (("*.jpg", "!/1.jpg"), ["1.jpg", "a/2.png"]),
        (("**/b/*.jpg",), ["1.jpg", "a/1.jpg", "a/2.png"]),
        (("!@eaDir",), ["1.jpg", "@eaDir/t.jpg", "a/1.jpg", "a/2.png", "a/b/1.jpg", "b/1.jpg"]),
    ],
)
def test_patterns_of_gitignore_leave_paths_out(tmp_path: Path, patterns: tuple[str, ...], expected: list[str]) -> None:
    touch(tmp_path, "1.jpg", "a/1.jpg", "a/2.png", "a/b/1.jpg", "b/1.jpg", "@eaDir/t.jpg")
    collection = read_folder(tmp_path, ScanOptions(exclude=patterns))
    assert sorted(paths(collection)) == expected
    assert collection.skipped.excluded > 0 or patterns == ("!@eaDir",)


def test_patterns_leave_out_listed_images_too(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path\na/1.jpg\nb/1.jpg\n")
    collection = read_collection(tmp_path, ScanOptions(exclude=("a/",)))
    assert (paths(collection), collection.skipped.excluded) == (["b/1.jpg"], 1)


def test_a_linked_folder_is_mentioned_or_followed_once(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    touch(root, "z/1.jpg")
    touch(other, "2.jpg")
    (root / "a").symlink_to(root / "z")
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(other)
    plain = read_folder(root)
    assert paths(plain) == ["z/1.jpg"]
    assert [path for path, _ in plain.skipped.links] == ["a", "loop", "out"]
    followed = read_folder(root, ScanOptions(follow_links=True))
    assert (paths(followed), followed.skipped.links) == (["z/1.jpg", "out/2.jpg"], ())
    inside = read_folder(root, ScanOptions(follow_links=True, within_root=True))
    assert (paths(inside), inside.skipped.links) == (["z/1.jpg"], (("out", "it leads out of the folder"),))


def test_a_linked_folder_that_is_hidden_at_its_own_path_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, ".store/1.jpg")
    (tmp_path / "album").symlink_to(".store")
    assert paths(read_folder(tmp_path, ScanOptions(follow_links=True, within_root=True))) == ["album/1.jpg"]


def test_a_linked_file_is_an_image_unless_it_must_lie_within_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, "1.jpg")
    touch(tmp_path, "other/2.jpg")
    (root / "in.jpg").symlink_to("1.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "other" / "2.jpg")
    (root / "gone.jpg").symlink_to("nothing.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    anywhere = read_folder(root)
    assert paths(anywhere) == ["1.jpg", "in.jpg", "out.jpg"]
    assert anywhere.skipped.links == (("gone.jpg", "it leads to nothing"), ("self.jpg", "a loop of links"))
    inside = read_folder(root, ScanOptions(within_root=True))
    assert paths(inside) == ["1.jpg", "in.jpg"]
    assert ("out.jpg", "it leads out of the folder") in inside.skipped.links


def test_a_root_that_is_a_link_is_a_root_as_any(tmp_path: Path) -> None:
    touch(tmp_path, "real/a/1.jpg")
    (tmp_path / "root").symlink_to("real")
    assert paths(read_folder(tmp_path / "root", ScanOptions(within_root=True))) == ["a/1.jpg"]


def test_names_are_any_bytes(tmp_path: Path) -> None:
    names = [b"\xff.jpg", b"new\nline.jpg", b"[b] \\\\ %20.jpg", b"-x.jpg", b"\x1b[31m.jpg", b"a" * 251 + b".jpg"]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    assert sorted(map(os.fsencode, paths(read_folder(tmp_path)))) == sorted(names)


@pytest.mark.parametrize(
    ("landmark_from", "expected"),
    [(None, "city/tower"), ("folder", "city/tower"), ("parent", "tower"), ("none", "")],
)
def test_landmarks_are_named_as_asked(tmp_path: Path, landmark_from: LandmarkFrom | None, expected: str) -> None:
    touch(tmp_path, "city/tower/1.jpg")
    assert read_folder(tmp_path, ScanOptions(landmark_from=landmark_from)).images[0].landmark == expected
    (tmp_path / "manifest.csv").write_text("path,landmark\ncity/tower/1.jpg,listed\n")
    listed = read_collection(tmp_path, ScanOptions(landmark_from=landmark_from))
    assert listed.images[0].landmark == ("listed" if landmark_from is None else expected)


def test_a_plain_folder_has_no_manifest_to_name_landmarks(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    with pytest.raises(GlamError, match="no manifest"):
        read_collection(tmp_path, ScanOptions(landmark_from="manifest"))


def test_a_collection_tells_how_to_read_it_again(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    options = ScanOptions(exclude=("*.png",))
    collection = read_collection(tmp_path, options)
    assert (collection.source, collection.options) == (tmp_path, options)


def test_a_folder_that_vanishes_during_the_scan_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    real = os.scandir

    def vanishing(path: Path) -> object:
        if Path(path).name == "a":
            (tmp_path / "a" / "1.jpg").unlink()
            (tmp_path / "a").rmdir()
        return real(path)

    monkeypatch.setattr(scan.os, "scandir", vanishing)
    collection = read_folder(tmp_path)
    assert (paths(collection), collection.skipped.unlisted) == (["b/1.jpg"], ())


def test_a_disk_that_fails_is_not_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    refuse(monkeypatch, "scandir", tmp_path / "a", errno.EIO)
    assert read_folder(tmp_path).skipped.unlisted == (("a", "input/output error"),)


def test_formats_of_an_extra_that_is_not_installed_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glam.images.formats.NEEDS_EXTRA", frozenset({".nef"}))
    summary = Skipped({".nef": 2, ".mov": 1}).summary()
    assert summary == "1 .mov (format not read), 2 .nef (needs pip install 'glam-retrieval[formats]')"


def test_a_link_that_the_system_refuses_to_follow_may_be_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens it learns that it is refused; a scan that passed it over would say that it is gone."""
    touch(tmp_path, "in/1.jpg")
    for name in ("linked.jpg", "linked.mov"):
        (tmp_path / name).symlink_to("in/1.jpg")
    refuse(monkeypatch, "lstat", tmp_path / "in" / "1.jpg", errno.ESTALE)
    collection = read_folder(tmp_path, ScanOptions(within_root=True))
    assert paths(collection) == ["linked.jpg", "in/1.jpg"]
    assert collection.skipped.links == (("linked.mov", "stale file handle"),)


def test_a_linked_folder_that_the_system_refuses_counts_as_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "1.jpg", ".store/2.jpg")
    (tmp_path / "album").symlink_to(".store")
    refuse(monkeypatch, "lstat", tmp_path / ".store", errno.ESTALE)
    followed = read_folder(tmp_path, ScanOptions(follow_links=True)).skipped
    assert (followed.unlisted, followed.links) == ((("album", "stale file handle"),), ())
    plain = read_folder(tmp_path).skipped
    assert (plain.unlisted, plain.links) == ((), (("album", "stale file handle"),))


def test_names_in_the_report_are_utf_8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    touch(tmp_path, "1.jpg", f"x.{odd}")
    (tmp_path / odd).symlink_to("nothing")
    skipped = read_folder(tmp_path).skipped
    assert skipped.links == (("caf\\udce9", "it leads to nothing"),)
    assert skipped.formats == {".caf\\udce9": 1}


def test_a_folder_whose_files_may_not_be_looked_at_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "1.jpg")
    refuse(monkeypatch, "stat", tmp_path / LISTS[0], errno.ESTALE)
    for read in (is_list, read_collection):
        with pytest.raises(GlamError, match="cannot be opened: stale file handle"):
            read(tmp_path)


def test_listed_files_that_a_link_leads_out_are_passed_over_where_asked(tmp_path: Path) -> None:
    touch(tmp_path, "root/1.jpg", "root/a/2.jpg", "out/3.jpg", "out/4.jpg")
    root = tmp_path / "root"
    (root / "file.jpg").symlink_to(tmp_path / "out" / "3.jpg")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "inside.jpg").symlink_to("a/2.jpg")
    (root / "dead.jpg").symlink_to("nowhere.jpg")
    names = ["1.jpg", "file.jpg", "folder/4.jpg", "inside.jpg", "dead.jpg", "lost.jpg"]
    (root / "list.csv").write_text("\n".join(["path", *names]))
    collection = read_collection(root / "list.csv", ScanOptions(within_root=True))
    assert paths(collection) == ["1.jpg", "inside.jpg", "dead.jpg", "lost.jpg"]
    assert collection.skipped.links == tuple((path, "it leads out of the folder") for path in names[1:3])
    assert paths(read_collection(root / "list.csv")) == names
