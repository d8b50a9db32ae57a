"""What a folder may hold besides good images: damaged files of any format, pipes, other formats with its suffixes."""

import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from glam.datasets.collection import Collection, ImageFile
from glam.datasets.image_dataset import read_shapes
from glam.datasets.readers import read_folder
from glam.errors import ImageError
from glam.images import FORMATS, open_image, read_image, read_upright_size, upright_size
from glam.inference.decode import prepare
from glam.stage_times import Times

ORIENTATION = 0x0112
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def save_picture(file: Path, format: str, orientation: int = 1) -> None:
    exif = Image.Exif()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    Image.radial_gradient("L").resize((60, 40)).convert("RGB").save(file, format, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_reader_agrees_on_the_upright_size(tmp_path: Path, format: str, orientation: int) -> None:
    file = tmp_path / "a"
    save_picture(file, format, orientation)
    expected = (40, 60) if orientation >= 5 else (60, 40)
    prepared = prepare(file, None, 64, 8, Times())
    assert read_image(file).size == expected
    assert read_upright_size(file) == expected
    assert (prepared.width, prepared.height) == expected
    decoded = open_image(file)
    decoded.load()
    assert upright_size(decoded) == expected


def test_an_orientation_that_is_no_number_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    entry = struct.pack("<HHI4s", ORIENTATION, 2, 2, b"6")  # type 2 is text
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    Image.new("RGB", (60, 40)).save(file, exif=exif)
    assert read_upright_size(file) == (60, 40)
    assert read_image(file).size == (60, 40)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, IndexError, KeyError, AssertionError, ZeroDivisionError])
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    file = tmp_path / "a.png"
    save_picture(file, "PNG")

    def fail(*args: object) -> None:
        raise error("decoding failed")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    for read in (read_image, lambda path: prepare(path, None, 64, 8, Times())):
        with pytest.raises(ImageError, match="decoding failed") as raised:
            read(file)
        assert raised.value.source == str(file)


@pytest.mark.parametrize("format", FORMATS)
def test_cut_and_overwritten_files_raise_only_image_errors(tmp_path: Path, format: str) -> None:
    file = tmp_path / "a"
    save_picture(file, format)
    content = file.read_bytes()
    step = max(1, len(content) // 40)
    for at in range(0, len(content), step):
        for damaged in (content[:at], content[:at] + bytes(16) + content[at + 16 :]):
            with suppress(ImageError):
                read_image(damaged)


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "x.jpg"
    os.mkfifo(pipe)
    for read in (read_image, read_upright_size, lambda path: prepare(path, None, 64, 8, Times())):
        with pytest.raises(ImageError, match="not a regular file"):
            read(pipe)


def test_no_other_program_reads_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript would start Ghostscript."""
    ghostscript, mark = tmp_path / "gs", tmp_path / "started"
    ghostscript.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "x.jpg"
    file.write_bytes(POSTSCRIPT)
    for read in (read_image, read_upright_size, lambda path: prepare(path, None, 64, 8, Times())):
        with pytest.raises(ImageError, match="not an image that can be read"):
            read(file)
    assert not mark.exists()


def test_a_header_that_cannot_be_read_is_an_error_of_that_image(tmp_path: Path) -> None:
    save_picture(tmp_path / "good.png", "PNG")
    header = (tmp_path / "good.png").read_bytes()
    (tmp_path / "huge.png").write_bytes(header[:16] + (60_000).to_bytes(4, "big") * 2 + header[24:])
    shapes = read_shapes(Collection(tmp_path, (ImageFile("good.png"), ImageFile("huge.png"))))
    assert shapes[0] == (60, 40)
    assert isinstance(shapes[1], ImageError)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_picture(tmp_path / folder / "1.jpg", "JPEG")
    refuse_to_list(monkeypatch, tmp_path / "b")
    collection = read_folder(tmp_path)
    assert [image.path for image in collection.images] == ["a/1.jpg"]
    assert collection.skipped.unlisted == (("b", "permission denied"),)


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Permissions do not stop root, so the call itself fails."""
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
