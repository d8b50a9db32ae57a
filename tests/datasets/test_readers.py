"""Detection of sources, manifests, lists, and names to exclude."""

import pickle
from pathlib import Path

import pytest
from PIL import Image

from glam.datasets.collection import Collection, ImageFile, exclude, read_names
from glam.datasets.image_dataset import split_readable
from glam.datasets.manifest import read_manifest
from glam.datasets.readers import read_collection
from glam.errors import GlamError


def paths(collection: Collection) -> list[str]:
    return [image.path for image in collection.images]


def test_a_plain_folder_is_read_by_its_sub_folders(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a/1.webp", "a/deep/1.jpg", "a/notes.txt", ".hidden/1.jpg", "a/.1.jpg", "0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images = read_collection(tmp_path).images
    assert images == (
        ImageFile("0.jpg", ""),
        ImageFile("a/1.webp", "a"),
        ImageFile("a/deep/1.jpg", "a/deep"),
        ImageFile("b/1.png", "b"),
        ImageFile("b/2.JPG", "b"),
    )


def test_a_manifest_may_tell_landmarks_and_shapes(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("width,path,other,landmark,height\n640,a\\1.jpg,x,tower,480\n,b/2.jpg,x,,\n", "utf-8-sig")
    collection = read_collection(manifest)
    assert collection.root == tmp_path
    other = {"other": "x"}
    assert collection.images == (ImageFile("a/1.jpg", "tower", (640, 480), other), ImageFile("b/2.jpg", metadata=other))
    assert read_manifest(manifest, tmp_path / "x").root == tmp_path / "x"


def test_label_is_a_deprecated_name_of_landmark_in_a_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\na.jpg,tower\n")
    assert read_manifest(manifest).images == (ImageFile("a.jpg", "tower"),)
    manifest.write_text("path,label,landmark\na.jpg,night,tower\n")
    assert read_manifest(manifest).images == (ImageFile("a.jpg", "tower", metadata={"label": "night"}),)


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path\nonly.jpg\n")
    (tmp_path / "other.jpg").touch()
    assert paths(read_collection(tmp_path)) == ["only.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landmark\na\n", "has no column 'path'"),
        ("path,landmark\na.jpg\n", "line 2 has 1 of 2"),
        ("path,width,height\na.jpg,12,\n", "line 2: '12' x '' is not a size"),
        ("path,width,height\na.jpg,0,5\n", "is not a size"),
        ("path,width,height\na.jpg,-3,5\n", "is not a size"),
        ("path\n../a.jpg\n", "leads out"),
        ("path\na/../../b.jpg\n", "leads out"),
        ("path\n/etc/a.jpg\n", "leads out"),
        ("path\n..\\a.jpg\n", "leads out"),
        ("path\n", "no images"),
    ],
)
def test_a_damaged_manifest_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(GlamError, match=message):
        read_collection(tmp_path)


def test_a_manifest_that_is_no_text_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GlamError, match="not a text file"):
        read_collection(tmp_path / "m.csv")


def test_known_shapes_are_taken_and_only_the_other_files_are_opened(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "there.png")
    images = (ImageFile("gone.jpg", "a", (640, 480)), ImageFile("there.png", "a"), ImageFile("missing.png", "a"))
    kept, shapes, bad = split_readable(Collection(tmp_path, images))
    assert paths(kept) == ["gone.jpg", "there.png"]
    assert shapes == [(640, 480), (30, 20)]
    assert [error.source for error in bad] == [str(tmp_path / "missing.png")]


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_the_ground_truth_lists_the_database_images(tmp_path: Path, name: str) -> None:
    ground_truth = {"imlist": ["all_souls_000013", "oxford_002416"], "qimlist": ["q"], "gnd": [{}]}
    (tmp_path / f"gnd_{name}.pkl").write_bytes(pickle.dumps(ground_truth))
    (tmp_path / "jpg").mkdir()
    collection = read_collection(tmp_path)
    assert collection.root == tmp_path / "jpg"
    assert collection.images == (ImageFile("all_souls_000013.jpg"), ImageFile("oxford_002416.jpg"))


@pytest.mark.parametrize("names", ["abc", [1, 2], ["../../etc/passwd"]])
def test_a_ground_truth_with_other_names_is_refused(tmp_path: Path, names: object) -> None:
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps({"imlist": names}))
    with pytest.raises(GlamError, match=r"'imlist' is not a list of names|leads out"):
        read_collection(tmp_path)


def test_the_million_distractors_are_listed_in_their_text(tmp_path: Path) -> None:
    (tmp_path / "revisitop1m.txt").write_text("0d3/aa/1.jpg\n0d3/aa/2.jpg\n\n")
    (tmp_path / "jpg").mkdir()
    collection = read_collection(tmp_path)
    assert (collection.root, paths(collection)) == (tmp_path / "jpg", ["0d3/aa/1.jpg", "0d3/aa/2.jpg"])


def test_a_source_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    for source in (tmp_path / "no", tmp_path / "no.csv", f"{tmp_path}/no.pkl:train"):
        with pytest.raises(GlamError, match="no such"):
            read_collection(source)
    with pytest.raises(GlamError, match="no images"):
        read_collection(tmp_path)


def test_a_part_of_what_has_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    with pytest.raises(GlamError, match="only SfM-120k has parts"):
        read_collection(f"{tmp_path}:train")


def test_a_folder_may_have_the_name_of_a_part(tmp_path: Path) -> None:
    (tmp_path / "x:train").mkdir()
    (tmp_path / "x:train" / "1.jpg").touch()
    assert paths(read_collection(tmp_path / "x:train")) == ["1.jpg"]


def collection() -> Collection:
    return Collection(Path("x"), (ImageFile("a/1.jpg", "a"), ImageFile("a/2.jpg", "a"), ImageFile("b/1.jpg", "b")))


def test_names_leave_out_landmarks_and_paths(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("b\r\n\n a/2.jpg \n")
    assert paths(exclude(collection(), read_names(tmp_path / "names.txt"))) == ["a/1.jpg"]


def test_names_of_another_collection_are_a_mistake_and_so_are_all() -> None:
    with pytest.raises(GlamError, match="none of the 1 names"):
        exclude(collection(), frozenset({"c"}))
    with pytest.raises(GlamError, match="match every image"):
        exclude(collection(), frozenset({"a", "b"}))


def test_training_never_sees_what_is_left_out(tmp_path: Path) -> None:
    from glam.training.data import LandmarkData

    for landmark in "abcdef":
        for i in range(2):
            (tmp_path / landmark).mkdir(exist_ok=True)
            Image.new("RGB", (40, 30)).save(tmp_path / landmark / f"{i}.png")
    names = tmp_path / "names.txt"
    names.write_text("c\nd/1.png\n")
    data = LandmarkData(tmp_path, leave_out=names)
    seen = {image.path for image in data.train.images} | {image.path for image in data.val.images}
    assert seen == {f"{landmark}/{i}.png" for landmark in "abdef" for i in range(2)} - {"d/1.png"}


def test_blank_lines_of_a_list_are_passed_over_and_a_path_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"\na.jpg\n./a.jpg\n\n{tmp_path}/b.jpg\na.jpg\n")
    assert paths(read_collection(file)) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("source", ["x" * 300, "x" * 300 + ".csv"])
def test_a_source_that_the_system_refuses_is_a_clear_error(source: str) -> None:
    with pytest.raises(GlamError, match="cannot be opened: file name too long"):
        read_collection(source)


def test_a_source_that_may_not_be_opened_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(GlamError, match="cannot be opened: permission denied"):
        read_collection(tmp_path)


def test_a_folder_of_links_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "album").symlink_to("/usr")
    with pytest.raises(GlamError, match=r"contains no images \(skipped: 1 link\)"):
        read_collection(tmp_path)
