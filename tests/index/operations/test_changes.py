"""Operations on an index whose folder changes: sync, add, remove, compact, near-duplicates, and metadata."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.collection import Collection, ImageFile, ScanOptions
from glam.datasets.readers import read_collection, read_folder
from glam.errors import GlamError
from glam.index import Index, SyncReport, add, build, compact, near_duplicates, remove, sync, verify
from glam.index.limits import IndexLimits
from glam.index.operations.source import read_images, read_source
from glam.index.storage.segments import segment_file
from tests.index.operations.photos import COUNT, check, synced, write


def nothing_is_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a test fail when a file of the folder is opened."""
    for owner in (Path, os):

        def noted(file: Any, *arguments: Any, usual: Any = owner.open, **options: Any) -> Any:
            if Path(file).is_relative_to(folder):
                pytest.fail(f"{file} was opened")
            return usual(file, *arguments, **options)

        monkeypatch.setattr(owner, "open", noted)


def contents(model: Any) -> set[str]:
    described = [content.decode() for content in model.described]
    assert len(described) == len(set(described))
    return set(described)


def test_sync_adds_changes_moves_and_removes(index: Path, folder: Path, content_model: Any) -> None:
    write(folder / "new.jpg", "brand new")
    write(folder / "place 0" / "0.jpg", "changed")
    (folder / "place 1" / "1.jpg").rename(folder / "elsewhere.jpg")
    (folder / "place 2" / "2.jpg").unlink()
    report = synced(index, folder, content_model)
    assert report == SyncReport(added=1, changed=1, moved=1, removed=1, unchanged=COUNT - 3, unreadable=())
    assert contents(content_model) == {"brand new", "changed"}


def test_a_folder_that_did_not_change_needs_no_model_and_opens_no_file(
    index: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file: file.read_bytes() for file in index.rglob("*") if file.is_file()}
    nothing_is_opened(folder, monkeypatch)
    report = sync(index, read_folder(folder), lambda: pytest.fail("the model was loaded"))
    assert report.unchanged == COUNT
    assert before == {file: file.read_bytes() for file in index.rglob("*") if file.is_file()}


def test_a_file_with_a_new_time_is_read_once_and_not_described(
    index: Path, folder: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(folder / "place 0" / "0.jpg", ns=(1, 1))
    assert synced(index, folder, content_model).unchanged == COUNT
    nothing_is_opened(folder, monkeypatch)
    assert sync(index, read_folder(folder), lambda: content_model).unchanged == COUNT
    assert contents(content_model) == set()


def test_a_name_that_is_not_utf8_is_listed_and_the_rest_is_synced(
    index: Path, folder: Path, content_model: Any
) -> None:
    file = folder / "place 0" / "0.jpg"
    file.rename(os.fsdecode(os.fsencode(file.parent) + b"/caf\xe9.jpg"))
    write(folder / "new.jpg", "brand new")
    for added in (1, 0):
        report = sync(index, read_folder(folder), lambda: content_model)
        assert (report.added, report.unreadable) == (added, (("place 0/caf\\udce9.jpg", "its name is not UTF-8"),))
    assert sync(index, read_folder(folder), lambda: pytest.fail("loaded a model for nothing")).unreadable


def test_files_that_swap_names_keep_their_descriptors(index: Path, folder: Path, content_model: Any) -> None:
    a, b, spare = folder / "place 0" / "0.jpg", folder / "place 1" / "1.jpg", folder / "spare"
    for source, target in ((a, spare), (b, a), (spare, b)):
        source.rename(target)
    assert synced(index, folder, content_model).moved == 2
    (folder / "place 2" / "2.jpg").rename(a)  # replaces another image, whose content is then gone
    report = synced(index, folder, content_model)
    assert (report.moved, report.removed, report.changed) == (1, 1, 0)
    assert contents(content_model) == set()


def test_a_moved_image_keeps_its_id(index: Path, folder: Path, content_model: Any) -> None:
    with Index.open(index) as before:
        old = {before.entry(i).path: i for i in before.image_ids.tolist()}
    (folder / "place 1").rename(folder / "renamed")
    synced(index, folder, content_model)
    with Index.open(index) as after:
        for i in after.image_ids.tolist():
            assert old[after.entry(i).path.replace("renamed", "place 1")] == i


def test_images_on_a_disk_that_comes_back_are_not_described_again(
    index: Path, folder: Path, content_model: Any, tmp_path: Path
) -> None:
    (folder / "place 1").rename(tmp_path / "away")
    assert synced(index, folder, content_model).removed == COUNT // 3
    (tmp_path / "away").rename(folder / "place 1")
    assert synced(index, folder, content_model).moved == COUNT // 3
    assert contents(content_model) == set()


def test_an_empty_folder_is_an_error(index: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(GlamError, match="contains no images"):
        read_collection(folder)


def test_a_file_that_became_unreadable_is_no_longer_found(index: Path, folder: Path, content_model: Any) -> None:
    write(folder / "place 0" / "0.jpg", "broken")
    report = synced(index, folder, content_model)
    assert (report.unreadable, report.added, report.changed) == ((("place 0/0.jpg", "broken"),), 0, 0)
    assert report.removed == 1
    (folder / "place 0" / "0.jpg").unlink()
    synced(index, folder, content_model)
    with Index.open(index) as opened:
        assert opened.unreadable() == []


def test_a_file_name_that_is_not_utf_8_is_listed_as_unreadable(index: Path, folder: Path, content_model: Any) -> None:
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"coffee")
    report = sync(index, read_folder(folder), lambda: content_model)
    assert report.unreadable == (("caf\\udce9.jpg", "its name is not UTF-8"),)
    assert report.unchanged == COUNT


def test_duplicate_paths_are_one_image(folder: Path, tmp_path: Path, content_model: Any) -> None:
    path = "place 0/0.jpg"
    collection = Collection(folder, (ImageFile(path, "first"), ImageFile(path, "second")))
    assert build(tmp_path / "two.glam", collection, content_model).added == 1
    assert sync(tmp_path / "two.glam", collection, lambda: content_model).unchanged == 1


def test_another_folder_is_rejected(index: Path, tmp_path: Path, content_model: Any) -> None:
    write(tmp_path / "other" / "a.jpg", "a")
    with pytest.raises(GlamError, match="is an index of"):
        sync(index, read_folder(tmp_path / "other"), lambda: content_model)


def test_another_model_is_rejected(index: Path, folder: Path, content_model: Any) -> None:
    write(folder / "new.jpg", "new")
    content_model.fingerprint = "another"
    with pytest.raises(GlamError, match="cannot be compared"):
        sync(index, read_folder(folder), lambda: content_model)


def test_adding_single_images(index: Path, folder: Path, content_model: Any, tmp_path: Path) -> None:
    write(folder / "place 9" / "new.jpg", "new")
    write(folder / "place 0" / "0.jpg", "changed")
    report = add(
        index, [folder / "place 9" / "new.jpg", folder / "place 0" / "0.jpg", folder / "place 1" / "1.jpg"],
        lambda: content_model,
    )  # fmt: skip
    assert (report.added, report.changed, report.unchanged, report.removed) == (1, 1, 1, 0)
    check(index, folder, content_model)
    write(tmp_path / "outside.jpg", "outside")
    with pytest.raises(GlamError, match="is outside"):
        add(index, [tmp_path / "outside.jpg"], lambda: content_model)
    with pytest.raises(GlamError, match="no such file"):
        add(index, [folder / "nowhere.jpg"], lambda: content_model)


def test_adding_a_folder_says_what_adds_its_images(index: Path, folder: Path, content_model: Any) -> None:
    with pytest.raises(GlamError, match="a folder; `glam index sync` adds its images"):
        add(index, [folder], lambda: content_model)


def test_adding_what_the_next_sync_would_remove_is_refused(folder: Path, content_model: Any, tmp_path: Path) -> None:
    index, outside = tmp_path / "scanned.glam", tmp_path / "outside.jpg"
    write(outside, "outside")
    build(index, read_images(folder, ScanOptions(exclude=("draft*", "raw/"))), content_model)
    for path in ("a/.hidden/1.jpg", ".1.jpg", "draft 1.jpg", "a/raw/x/1.jpg", "@eaDir/1.jpg", "1.text"):
        write(folder / path, path)
        with pytest.raises(GlamError, match=r"cannot be added, because it.*`glam index sync` would remove it"):
            add(index, [folder / path], lambda: content_model)
    (folder / "link.jpg").symlink_to(outside)
    with pytest.raises(GlamError, match="because it leads out of the folder"):
        add(index, [folder / "link.jpg"], lambda: content_model)
    write(folder / "a" / "raw.jpg", "new")
    assert add(index, [folder / "a" / "raw.jpg"], lambda: content_model).added == 1
    report = sync(index, read_source(index), lambda: content_model)
    assert (report.added, report.removed) == (0, 0)


def test_removing_by_path_file_and_folder(index: Path, folder: Path) -> None:
    with Index.open(index) as opened:
        (first,) = (i for i in opened.image_ids.tolist() if opened.entry(i).path == "place 0/0.jpg")
    assert remove(index, ["place 0/0.jpg", folder / "place 0" / "3.jpg"]) == 2
    assert remove(index, ["place 1/"]) == COUNT // 3
    with Index.open(index) as opened:
        left = {opened.entry(i).path for i in opened.image_ids.tolist()}
        everything = [hit.path for hit in opened.search(opened.descriptor(int(opened.image_ids[0])), k=COUNT)[0]]
        with pytest.raises(KeyError):
            opened.entry(first)
    assert left == {
        "place 0/6.jpg",
        "place 0/9.jpg",
        "place 2/2.jpg",
        "place 2/5.jpg",
        "place 2/8.jpg",
        "place 2/11.jpg",
    }
    assert set(everything) == left


def test_a_remove_with_an_unknown_path_removes_nothing(index: Path) -> None:
    with pytest.raises(GlamError, match="so nothing was removed"):
        remove(index, ["place 0/0.jpg", "place 0/none.jpg"])
    with Index.open(index) as opened:
        assert len(opened) == COUNT


def test_compact_frees_disk_space_and_keeps_ids(index: Path, folder: Path, content_model: Any) -> None:
    shutil.rmtree(folder / "place 1")
    synced(index, folder, content_model)
    with Index.open(index) as opened:
        before = {i: opened.entry(i) for i in opened.image_ids.tolist()}
    report = compact(index)
    assert (report.removed, report.bytes_before - report.bytes_after) == (4, 4 * 32 * 4)
    check(index, folder, content_model)
    with Index.open(index) as opened:
        assert {i: opened.entry(i) for i in opened.image_ids.tolist()} == before
    assert compact(index).removed == 0
    write(folder / "late.jpg", "late")
    synced(index, folder, content_model)
    with Index.open(index) as opened:
        assert int(opened.image_ids[-1]) == COUNT  # ids are never reused


def test_everything_removed_and_compacted_is_an_empty_index(index: Path, folder: Path, content_model: Any) -> None:
    remove(index, [f"place {i}" for i in range(3)])
    compact(index)
    with Index.open(index) as opened:
        assert opened.search(np.eye(1, 32, dtype=np.float32)) == [[]]
    assert verify(index, lambda: content_model).problems == ()
    synced(index, folder, content_model)


def test_many_small_segments(folder: Path, tmp_path: Path, content_model: Any) -> None:
    """Search, sync, and compact with segments of five rows; segments without removed images stay unchanged."""
    limits = IndexLimits(segment_rows=5, commit_images=2)
    index = tmp_path / "small.glam"
    build(index, read_folder(folder), content_model, limits=limits)
    check(index, folder, content_model)
    first = segment_file(index, 1).stat().st_ino
    with Index.open(index) as opened:
        last = opened.file(int(opened.image_ids[-1]))
    last.unlink()
    synced(index, folder, content_model, limits)
    compact(index, limits=limits)
    check(index, folder, content_model)
    assert segment_file(index, 1).stat().st_ino == first


def test_a_segment_is_filled_before_the_next_one_is_created(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "full.glam"
    report = build(index, read_folder(folder), content_model, limits=IndexLimits(segment_rows=4, commit_images=2))
    sizes = [segment_file(index, n).stat().st_size // (4 * content_model.dim) for n in range(1, report.added // 4 + 1)]
    assert sizes == [4] * (report.added // 4)


def test_metadata_of_a_manifest(folder: Path, tmp_path: Path, content_model: Any) -> None:
    manifest = folder / "list.csv"
    manifest.write_text("path,landmark,city,year,code\nplace 0/0.jpg,a,Paris,2011,007\nplace 1/1.jpg,b,,1999.5,x\n")
    index = tmp_path / "m.glam"
    build(index, read_collection(manifest), content_model)
    with Index.open(index) as opened:
        found = {e.path: e.metadata for e in opened.entries(opened.image_ids.tolist())}
    assert found == {
        "place 0/0.jpg": {"city": "Paris", "year": 2011, "code": "007"},
        "place 1/1.jpg": {"year": 1999.5, "code": "x"},
    }
    manifest.write_text("path,landmark,city\nplace 0/0.jpg,a,Lyon\nplace 1/1.jpg,c,\n")
    content_model.described.clear()
    assert sync(index, read_collection(manifest), lambda: content_model).unchanged == 2
    with Index.open(index) as opened:
        found = {e.landmark: e.metadata for e in opened.entries(opened.image_ids.tolist())}
    assert found == {"a": {"city": "Lyon"}, "c": {}}
    assert contents(content_model) == set()


def test_near_duplicates_are_groups(tmp_path: Path, content_model: Any) -> None:
    root = tmp_path / "photos"
    for name, content in {"a": "x", "copy of a": "x", "third": "x", "b": "y", "b again": "y", "alone": "z"}.items():
        write(root / f"{name}.jpg", content)
    build(tmp_path / "i.glam", read_folder(root), content_model)
    with Index.open(tmp_path / "i.glam") as opened:
        groups = near_duplicates(opened, 0.99)
        assert [{e.path for e in group.images} for group in groups] == [
            {"a.jpg", "copy of a.jpg", "third.jpg"},
            {"b.jpg", "b again.jpg"},
        ]
        assert all(group.similarity == pytest.approx(1) for group in groups)
        (everything,) = near_duplicates(opened, -1.0)
        everyone = opened.descriptors(opened.image_ids.tolist())
        assert everything.similarity == pytest.approx((everyone @ everyone.T).min()), (
            "the lowest score of the joined pairs"
        )
    remove(tmp_path / "i.glam", ["a.jpg", "b.jpg"])  # image ids and rows now differ
    with Index.open(tmp_path / "i.glam") as opened:
        (group,) = near_duplicates(opened, 0.99)
        assert {entry.path for entry in group.images} == {"copy of a.jpg", "third.jpg"}


def test_search_above_a_threshold(index: Path) -> None:
    with Index.open(index) as opened:
        query = opened.descriptor(3)
        scores = [hit.score for hit in opened.search(query, k=COUNT)[0]]
        cut = scores[4] - 1e-4
        assert [hit.score for hit in opened.search(query, None, threshold=cut)[0]] == pytest.approx(scores[:5])
        assert len(opened.search(query, 2, threshold=cut)[0]) == 2
        assert len(opened.search(query, COUNT, threshold=cut)[0]) == 5
        assert len(opened.search(query, COUNT, threshold=scores[4])[0]) == 5, "a score at the threshold is a result"


def test_an_index_without_landmarks_keeps_those_that_it_was_given(
    folder: Path, tmp_path: Path, content_model: Any
) -> None:
    """A folder that names no landmarks says nothing about those of the catalog."""
    index, options = tmp_path / "i.glam", ScanOptions(landmark_from="none")
    plain = read_folder(folder, options)
    image = plain.images[0]._replace(landmark="tower", metadata={"year": 2019})
    build(index, replace(plain, images=(image, *plain.images[1:])), content_model)
    write(folder / image.path, "changed")
    report = sync(index, read_folder(folder, options), lambda: content_model)
    assert report.changed == 1
    (folder / image.path).rename(folder / "moved.jpg")
    assert sync(index, read_folder(folder, options), lambda: content_model).moved == 1
    with Index.open(index) as opened:
        known = {entry.path: entry for entry in opened.entries(opened.image_ids.tolist())}
    moved = known.pop("moved.jpg")
    assert (moved.landmark, moved.metadata) == ("tower", {"year": 2019})
    assert {entry.landmark for entry in known.values()} == {""}
    (folder / "moved.jpg").rename(folder / image.path)
    sync(index, read_folder(folder), lambda: content_model)
    with Index.open(index) as opened:
        assert {entry.landmark for entry in opened.entries(opened.image_ids.tolist())} == {
            f"place {i}" for i in (0, 1, 2)
        }


def test_an_image_that_is_added_is_named_as_the_others(folder: Path, tmp_path: Path, content_model: Any) -> None:
    for landmark_from, expected in (("none", ""), ("parent", "deep"), ("folder", "place 0/deep")):
        index = tmp_path / f"{landmark_from}.glam"
        build(index, read_folder(folder, ScanOptions(landmark_from=landmark_from)), content_model)
        write(folder / "place 0" / "deep" / f"{landmark_from}.jpg", landmark_from)
        add(index, [folder / "place 0" / "deep" / f"{landmark_from}.jpg"], lambda: content_model)
        with Index.open(index) as opened:
            added = opened.entries(opened.image_ids.tolist())[-1]
        assert added.landmark == expected


def test_an_interrupt_keeps_what_was_described(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index, usual = tmp_path / "i.glam", content_model.stream

    def interrupted(*arguments: Any) -> Any:
        for done, image in enumerate(usual(*arguments)):
            if done == 5:
                raise KeyboardInterrupt
            yield image

    content_model.stream = interrupted
    with pytest.raises(KeyboardInterrupt):
        build(index, read_folder(folder), content_model)
    content_model.stream = usual
    report = build(index, read_folder(folder), content_model)
    assert (report.present, report.added) == (5, COUNT - 5)
    check(index, folder, content_model)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_an_image_without_a_usable_descriptor_is_unreadable(
    value: float, folder: Path, tmp_path: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that holds such a descriptor could not be opened again."""
    name = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))[0]
    content, real = (folder / name).read_bytes(), content_model.descriptor
    monkeypatch.setattr(
        content_model,
        "descriptor",
        lambda found: np.full(content_model.dim, value, np.float32) if found == content else real(found),
    )
    report = build(tmp_path / "new.glam", read_folder(folder), content_model)
    assert (name, "its descriptor is zero or not finite") in report.unreadable
    with Index.open(tmp_path / "new.glam") as opened:
        assert len(opened) == report.added > 0
