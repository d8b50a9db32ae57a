"""Preparation of images for training."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.datasets.collection import Collection, ImageFile
from glam.datasets.image_dataset import split_readable
from glam.datasets.prepare import PrepareReport, prepare
from glam.datasets.readers import read_collection, read_folder
from glam.errors import GlamError
from glam.images import read_image

ORIENTATION = 0x0112
UPSIDE = 6  # EXIF orientation: the left side of the stored image is the top


def picture(width: int, height: int) -> Image.Image:
    """A gradient, which survives JPEG, with different corners."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 0 * x + 90], axis=-1).astype(np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four images of two landmarks, one of them rotated by EXIF, and two unreadable files."""
    root = tmp_path / "source"
    for name in ("tower", "bridge"):
        (root / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[ORIENTATION] = UPSIDE
    picture(400, 200).save(root / "tower/wide.jpg", exif=exif)
    picture(90, 120).save(root / "tower/small.JPEG")
    picture(300, 300).save(root / "tower/square.png")
    picture(200, 500).convert("L").save(root / "bridge/gray.webp")
    (root / "bridge/cut.jpg").write_bytes((root / "tower/wide.jpg").read_bytes()[:2000])
    (root / "bridge/text.png").write_text("no image")
    return root


SHAPES = {
    "bridge/gray.webp.jpg": (60, 150),
    "tower/small.JPEG": (90, 120),
    "tower/square.png.jpg": (150, 150),
    "tower/wide.jpg": (75, 150),
}


def test_images_come_out_upright_and_small_with_their_shapes_in_the_manifest(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = prepare(read_folder(source), out, 150)
    assert (done.encoded, done.present) == (4, 0)
    assert [error.source for error in done.unreadable] == ["bridge/cut.jpg", "bridge/text.png"]
    collection = read_collection(out)
    assert {image.path: image.shape for image in collection.images} == SHAPES
    assert {image.landmark for image in collection.images} == {"tower", "bridge"}
    for path, shape in SHAPES.items():
        with Image.open(out / path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", shape)
            assert ORIENTATION not in image.getexif()
    lines = (out / "unreadable.csv").read_text().splitlines()
    assert lines[0] == "path,reason"
    assert lines[2] == "bridge/text.png,not an image that can be read"


def test_the_picture_is_the_one_that_training_would_have_read(source: Path, tmp_path: Path) -> None:
    prepare(read_folder(source), tmp_path / "out", 150)
    wanted = read_image(source / "tower/wide.jpg").resize((75, 150), Image.Resampling.LANCZOS)
    got = read_image(tmp_path / "out/tower/wide.jpg")
    assert np.abs(np.asarray(wanted, dtype=int) - np.asarray(got, dtype=int)).mean() < 3


def test_training_opens_no_file_to_learn_a_shape(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(read_folder(source), out, 150)
    shutil.rmtree(out / "tower")
    shutil.rmtree(out / "bridge")
    kept, shapes, bad = split_readable(read_collection(out))
    assert dict(zip((image.path for image in kept.images), shapes, strict=True)) == SHAPES
    assert bad == []


def test_a_second_run_makes_nothing_and_mends_what_is_broken(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collection = read_folder(source)
    prepare(collection, out, 150)
    before = {path: (out / path).stat().st_mtime_ns for path in SHAPES}
    again = prepare(collection, out, 150)
    assert (again.encoded, again.present, len(again.unreadable)) == (0, 4, 2)
    assert {path: (out / path).stat().st_mtime_ns for path in SHAPES} == before
    wide = out / "tower/wide.jpg"
    wide.write_bytes(wide.read_bytes()[:-40])  # truncated
    (out / "tower/small.JPEG").write_bytes(
        (out / "tower/square.png.jpg").read_bytes()
    )  # a complete file, made from another image
    picture(80, 80).save(out / "bridge/gray.webp.jpg")  # a file of another program
    assert prepare(collection, out, 150).encoded == 3
    assert {image.path: image.shape for image in read_collection(out).images} == SHAPES


def test_another_size_or_a_changed_source_is_made_anew(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collection = read_folder(source)
    prepare(collection, out, 150)
    assert prepare(collection, out, 100).encoded == 4
    picture(50, 40).save(source / "tower/square.png")
    assert prepare(collection, out, 100).encoded == 1
    shapes = {image.path: image.shape for image in read_collection(out).images}
    assert shapes["tower/square.png.jpg"] == (50, 40)
    assert shapes["tower/wide.jpg"] == (50, 100)


def test_an_interrupted_run_leaves_no_manifest_and_is_taken_up(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collection = read_folder(source)
    prepare(collection, out, 150)
    shutil.rmtree(out / "tower")

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(collection, out, 150, progress=interrupt)
    assert not (out / "manifest.csv").exists()
    assert (prepare(collection, out, 150).encoded, len(read_collection(out))) == (1, 4)
    assert not list(out.rglob("*.partial"))


def test_many_processes_do_what_one_does(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for i in range(70):
        picture(40 + i, 60).save(source / f"{i:02d}.png")
    (source / "33.png").write_text("no image")
    reports: list[tuple[int, int]] = []
    collection = read_folder(source)
    many = prepare(collection, tmp_path / "many", 50, workers=2, progress=lambda *report: reports.append(report))
    one = prepare(collection, tmp_path / "one", 50, workers=1)
    assert many == PrepareReport(69, 0, many.unreadable)
    assert one.encoded == 69
    assert reports == [(i, 70) for i in range(1, 71)]
    for name in ("manifest.csv", "unreadable.csv", "05.png.jpg", "69.png.jpg"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_images_are_never_written_over_each_other(source: Path, tmp_path: Path) -> None:
    collection = read_folder(source)
    with pytest.raises(GlamError, match="overwrite themselves"):
        prepare(collection, source, 150)
    with pytest.raises(GlamError, match=r"both become tower/square\.png\.jpg"):
        prepare(
            Collection(source, (*collection.images, ImageFile("tower/square.png.jpg"))),
            tmp_path / "out",
            150,
        )


@pytest.mark.parametrize("out", ["out", "tower", "tower/out", ".", "..", ".out"])
def test_an_output_and_its_images_stay_apart(source: Path, out: str) -> None:
    """The first run is refused, so that no later one can take its results for images."""
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(GlamError, match=r"inside|overwrite themselves"):
        prepare(read_collection(source), source / out, 150)
    assert sorted(source.parent.rglob("*")) == before


def test_a_link_does_not_hide_that_an_output_holds_the_images(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    with pytest.raises(GlamError, match="overwrite themselves"):
        prepare(read_collection(source), tmp_path / "link", 150)
    with pytest.raises(GlamError, match="is inside"):
        prepare(read_collection(tmp_path / "link"), source / "out", 150)


def test_an_output_beside_listed_images_is_not_among_them(source: Path, tmp_path: Path) -> None:
    """A later run gives the same, unless the list names results of the first one."""
    rows = ["path,landmark", *(f"{path.relative_to(source)},a" for path in sorted(source.glob("tower/*")))]
    (source / "few.csv").write_text("\n".join(rows))
    for _ in range(2):
        prepare(read_collection(source / "few.csv"), source / "out", 150)
        assert len(read_collection(source / "out")) == 3
    (source / "all.csv").write_text("\n".join([*rows, "out/tower/wide.jpg,a"]))
    with pytest.raises(GlamError, match="overwrite themselves"):
        prepare(read_collection(source / "all.csv"), source / "out", 150)


def test_the_manifest_has_the_metadata_of_the_source(source: Path, tmp_path: Path) -> None:
    """Equal fields are read back from it, and an empty one stays empty."""
    header, rows = "path,year,landmark,who", ("tower/wide.jpg,1999,t,Ann", "tower/small.JPEG,,t,007")
    (source / "few.csv").write_text("\n".join([header, *rows]))
    collection = read_collection(source / "few.csv")
    prepare(collection, tmp_path / "out", 64)
    found = read_collection(tmp_path / "out").images
    assert [image.metadata for image in found] == [image.metadata for image in collection.images]
    assert found[0].metadata == {"year": 1999, "who": "Ann"}
    assert found[1].metadata == {"who": "007"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(GlamError, match="Permission denied"):
        prepare(read_folder(source), tmp_path / "out", 150)


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(GlamError, match="out"):
        prepare(read_folder(source), tmp_path / "out", 150)


def test_the_command_prepares_any_source(source: Path, tmp_path: Path) -> None:
    (source / "few.csv").write_text("path,landmark\ntower/wide.jpg,t\nbridge/text.png,b\n")
    done = CliRunner().invoke(app, ["data", "prepare", str(source / "few.csv"), str(tmp_path / "out"), "--size", "64"])
    assert done.exit_code == 0, done.output
    assert "1 image written" in done.output
    assert "bridge/text.png" in done.output
    assert read_collection(tmp_path / "out").images == (ImageFile("tower/wide.jpg", "t", (32, 64)),)


def test_an_image_whose_name_is_not_utf8_is_listed_and_the_others_are_prepared(source: Path, tmp_path: Path) -> None:
    (source / "tower" / os.fsdecode(b"\xff.jpg")).write_bytes((source / "tower/wide.jpg").read_bytes())
    done = prepare(read_folder(source), tmp_path / "out", 150)
    assert (done.encoded, done.present) == (4, 0)
    assert "tower/\\udcff.jpg,its name is not UTF-8" in (tmp_path / "out" / "unreadable.csv").read_text()
    assert {image.path for image in read_collection(tmp_path / "out").images} == set(SHAPES)
