"""Google Landmarks v2, read from its published tables alone."""

import os
import tracemalloc
from pathlib import Path

import pytest

from glam.datasets.collection import ImageFile
from glam.datasets.gldv2 import read_gldv2
from glam.datasets.readers import read_collection
from glam.errors import GlamError

IDS = ["6e158a47eb2ca3f6", "202cd79556f30760", "3ad87684c99c06e1"]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """A clean table of two landmarks without image files."""
    table = tmp_path / "train_clean.csv"
    table.write_text(f"landmark_id,images\n1,{IDS[0]} {IDS[1]}\n7,{IDS[2]}\n")
    return table


def test_a_clean_table_gives_each_image_its_path_and_landmark(clean: Path) -> None:
    (clean.parent / "train").mkdir()
    collection = read_gldv2(clean)
    assert collection.root == clean.parent / "train"
    assert collection.images == (
        ImageFile("6/e/1/6e158a47eb2ca3f6.jpg", "1"),
        ImageFile("2/0/2/202cd79556f30760.jpg", "1"),
        ImageFile("3/a/d/3ad87684c99c06e1.jpg", "7"),
    )
    assert collection.landmarks == ("1", "7")
    assert collection.landmark_ids.tolist() == [0, 0, 1]


def test_the_full_table_gives_the_same(clean: Path) -> None:
    full = clean.with_name("train.csv")
    rows = [(IDS[0], "1"), (IDS[1], "1"), (IDS[2], "7")]
    urls = "".join(f'{id},"http://upload.example/a,b.jpg",{landmark}\n' for id, landmark in rows)
    full.write_text("id,url,landmark_id\n" + urls)
    assert read_gldv2(full).images == read_gldv2(clean).images


def test_the_images_may_lie_beside_the_table(clean: Path) -> None:
    assert read_gldv2(clean).root == clean.parent


def test_a_folder_with_the_table_is_read_by_it_and_not_walked(clean: Path) -> None:
    (clean.parent / "train" / "0" / "0" / "0").mkdir(parents=True)
    (clean.parent / "train" / "0" / "0" / "0" / "000aaaaaaaaaaaaa.jpg").touch()
    assert read_collection(clean.parent).images == read_gldv2(clean).images


def test_a_landmark_may_have_more_images_than_the_csv_module_takes_in_a_field(tmp_path: Path) -> None:
    ids = [f"{i:016x}" for i in range(10_000)]
    (tmp_path / "train_clean.csv").write_text(f"landmark_id,images\n138982,{' '.join(ids)}\n")
    assert len(read_collection(tmp_path)) == len(ids)


@pytest.mark.parametrize("id", ["../../../etc/passwd", "ab", "..a", "a/b/c/d"])
def test_an_id_that_is_none_is_refused(tmp_path: Path, id: str) -> None:
    (tmp_path / "train_clean.csv").write_text(f"landmark_id,images\n1,{id}\n")
    with pytest.raises(GlamError, match="is not the id of an image"):
        read_collection(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train_clean.csv", "landmark_id,images\n1,0123456789abcdef\n2\n", "line 3 has no list"),
        ("train.csv", "id,url,landmark_id\n0123456789abcdef,http://a\n", "line 2 has 2 of 3"),
        ("train.csv", "name,url\n", "neither"),
        ("train_clean.csv", "", "neither"),
    ],
)
def test_a_damaged_table_says_where(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(GlamError, match=message):
        read_gldv2(tmp_path / name)


def test_an_image_costs_little_memory_and_no_look_at_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = 20_000
    lines = [f"{first},{' '.join(f'{i:016x}' for i in range(first, first + 20))}" for first in range(0, images, 20)]
    (tmp_path / "train_clean.csv").write_text("\n".join(["landmark_id,images", *lines]))
    looks = 0
    stat = os.stat

    def counted(*args: object, **named: object) -> os.stat_result:
        nonlocal looks
        looks += 1
        return stat(*args, **named)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", counted)
    tracemalloc.start()
    collection = read_collection(tmp_path)
    _ = collection.landmark_ids
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(collection) == images
    assert looks < 50
    assert held / images < 250  # bytes per image


@pytest.mark.parametrize("name", ["train_clean.csv", "train.csv"])
def test_blank_lines_are_passed_over(tmp_path: Path, name: str) -> None:
    lines = {
        "train_clean.csv": ("landmark_id,images", f"7,{IDS[0]}"),
        "train.csv": ("id,url,landmark_id", f"{IDS[0]},u,7"),
    }
    header, row = lines[name]
    (tmp_path / name).write_text(f"\n{header}\n\n{row}\n  \n\n")
    assert read_gldv2(tmp_path / name).images == (ImageFile("6/e/1/6e158a47eb2ca3f6.jpg", "7"),)
