"""The saved search structure: used while it is up to date, saved again when it is not, and safe to delete."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, build, compact, remove, sync, verify
from glam.index.ann import DescriptorSource
from glam.index.ann.exact import Exact
from glam.index.ann_cache import open_cached, read_list
from glam.index.limits import IndexLimits
from glam.index.storage.checksums import CHECKSUMS, digest_file

COUNT = 20


LIMITS = IndexLimits(save_exact=True, added_in_memory=3)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Size of each structure that is built from scratch."""
    sizes: list[int] = []
    usual = Exact.build

    def note(descriptors: DescriptorSource) -> Exact:
        sizes.append(len(descriptors))
        return usual(descriptors)

    monkeypatch.setattr(Exact, "build", note)
    return sizes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    add_files(root, COUNT)
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any, built: list[int]) -> Path:
    build(tmp_path / "i.glam", read_folder(folder), content_model, limits=LIMITS)
    assert built == [COUNT]
    built.clear()
    return tmp_path / "i.glam"


def add_files(folder: Path, count: int) -> None:
    there = len(list(folder.iterdir()))
    for i in range(there, there + count):
        (folder / f"{i:02d}.jpg").write_text(f"content {i}")


def check(index: Path, folder: Path) -> None:
    """Searches rank by inner product."""
    with Index.open(index, limits=LIMITS) as opened:
        assert {opened.entry(image_id).path for image_id in opened.image_ids.tolist()} == {
            p.path for p in read_folder(folder).images
        }
        descriptors = opened.descriptors(opened.image_ids.tolist())
        for descriptor, hits in zip(descriptors, opened.search(descriptors, k=100), strict=True):
            assert [hit.image_id for hit in hits] == opened.image_ids[np.argsort(-(descriptors @ descriptor))].tolist()


def names(index: Path) -> set[str]:
    return {file.name for file in (index / "search").iterdir()}


def test_a_few_new_images_are_added_and_removed_ones_masked_in_memory(
    index: Path, folder: Path, content_model: Any, built: list[int]
) -> None:
    before = names(index)
    add_files(folder, 3)
    (folder / "04.jpg").unlink()
    sync(index, read_folder(folder), lambda: content_model, limits=LIMITS)
    check(index, folder)
    compact(index, limits=LIMITS)
    check(index, folder)
    assert (names(index), built) == (before, [])


def test_many_new_images_go_into_a_new_file(index: Path, folder: Path, content_model: Any, built: list[int]) -> None:
    before = names(index)
    add_files(folder, 4)
    sync(index, read_folder(folder), lambda: content_model, limits=LIMITS)
    assert names(index) == {"list.json", "structure-000002.faiss", "ids-000002.npy"} != before
    check(index, folder)
    assert built == []


def test_many_removed_images_cause_a_rebuild(index: Path, folder: Path, built: list[int]) -> None:
    gone = [folder / f"{i:02d}.jpg" for i in range(8)]
    remove(index, gone, limits=LIMITS)
    for file in gone:
        file.unlink()
    check(index, folder)
    assert built == [COUNT - 8]
    found = read_list(index)
    assert found is not None
    assert len(np.load(found.ids_file)) == COUNT - 8


def test_the_cache_may_be_deleted_or_damaged(index: Path, folder: Path, built: list[int]) -> None:
    found = read_list(index)
    assert found is not None
    for file in (found.structure_file, found.ids_file, index / "search" / "list.json"):
        content = file.read_bytes()
        file.write_bytes(b"\0" * 50)
        check(index, folder)
        file.write_bytes(content)
    shutil.rmtree(index / "search")
    check(index, folder)
    assert built == [COUNT] * 4


def flipped(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]


def test_a_structure_with_a_flipped_byte_is_not_used_and_saved_again(
    index: Path, folder: Path, content_model: Any, built: list[int]
) -> None:
    for turn in range(6):
        found = read_list(index)
        assert found is not None
        file = (found.structure_file, found.ids_file)[turn % 2]
        content = file.read_bytes()
        file.write_bytes(flipped(content, (turn + 1) * len(content) // 8))
        check(index, folder)
        sync(index, read_folder(folder), lambda: content_model, limits=LIMITS)  # changes nothing
        assert [problem.file for problem in verify(index).problems] == [f"search/{file.name}"]
        add_files(folder, 1)
        sync(index, read_folder(folder), lambda: content_model, limits=LIMITS)
        assert verify(index).problems == ()
        built.clear()
        check(index, folder)
        assert built == []


def test_a_structure_of_another_index_is_not_used(folder: Path, tmp_path: Path, content_model: Any) -> None:
    """It matches its own digests, and has as many rows."""
    limits = IndexLimits(exact_below=0)
    indexes = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        for i in range(2_000):
            (tmp_path / name / f"{i}.jpg").write_text(f"{name} {i}")
        indexes.append(tmp_path / f"{name}.glam")
        build(indexes[-1], read_folder(tmp_path / name), content_model, structure="ivf_pq", limits=limits)
    with Index.open(indexes[0], limits=limits) as opened:
        assert open_cached(indexes[0], opened._snapshot) is not None
        shutil.rmtree(indexes[0] / "search")
        shutil.copytree(indexes[1] / "search", indexes[0] / "search")
        assert open_cached(indexes[0], opened._snapshot) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[" * 200_000,
        '{"kind": "exact", "structure": "../a", "ids": "../b", "digests": {}}',
        '{"kind": "exact", "structure": 7, "ids": [], "digests": {}}',
    ],
    ids=lambda text: text[:60].replace("/", " "),
)
def test_a_list_of_another_form_is_damaged(text: str, index: Path, folder: Path) -> None:
    (index / "search" / "list.json").write_text(text)
    with pytest.raises(GlamError, match=r"list\.json is damaged"):
        read_list(index)
    check(index, folder)


def test_an_unknown_kind_is_rejected_before_anything_is_written(
    folder: Path, tmp_path: Path, content_model: Any
) -> None:
    with pytest.raises(GlamError, match=r"no search structure 'fast'\. Choose one of exact"):
        build(tmp_path / "new.glam", read_folder(folder), content_model, structure="fast")
    with pytest.raises(TypeError, match="structures"):
        build(tmp_path / "new.glam", read_folder(folder), content_model, structures="exact")
    assert not (tmp_path / "new.glam").exists()


def test_the_chosen_structure_stays_until_another_is_chosen(index: Path, folder: Path, content_model: Any) -> None:
    for chosen, expected in (("exact", "exact"), (None, "exact"), ("", "")):
        build(index, read_folder(folder), content_model, structure=chosen, limits=LIMITS)
        with Index.open(index, limits=LIMITS) as opened:
            assert opened._config.structure == expected


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00v\x00" + b"{" * 118, b"\x93NUMPY\x01\x00\xff\xff", b"PK\x03\x04", b"\x80\x04]."]
)
def test_ids_that_are_none_are_replaced_although_their_digest_matches(
    content: bytes, index: Path, folder: Path, content_model: Any
) -> None:
    listed = index / "search" / "list.json"
    values = json.loads(listed.read_text())
    (listed.parent / values["ids"]).write_bytes(content)
    values["digests"][values["ids"]] = digest_file(listed.parent / values["ids"])
    listed.write_text(json.dumps(values))
    (index / CHECKSUMS).unlink()
    check(index, folder)
    (folder / "new.jpg").write_text("new")
    sync(index, read_folder(folder), lambda: content_model, limits=LIMITS)
    check(index, folder)
    assert verify(index).problems == ()
