"""What a folder may hold besides good images: damaged files of any format, pipes, other formats with its suffixes."""

import errno
import io
import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glam.datasets.collection import Collection, ImageFile
from glam.datasets.image_dataset import read_shapes
from glam.datasets.readers import read_folder
from glam.errors import ImageError, InaccessibleError, MissingDecoderError, TooLargeError
from glam.images import FORMATS, image_errors, open_image, read_image, read_upright_size, upright_size
from glam.inference.decode import prepare
from glam.stage_times import Times
from tests.refusal import refuse

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
    refuse(monkeypatch, "scandir", tmp_path / "b")
    collection = read_folder(tmp_path)
    assert [image.path for image in collection.images] == ["a/1.jpg"]
    assert collection.skipped.unlisted == (("b", "permission denied"),)


def test_what_is_no_regular_file_is_named_as_such(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        for name in ("pipe.jpg", "socket.jpg"):
            with pytest.raises(ImageError, match="not a regular file"):
                read_image(tmp_path / name)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", "PNG")
    with pytest.raises(TooLargeError, match="more than the limit"), image_errors(tmp_path / "a.png"):
        open_image(tmp_path / "a.png", max_bytes=10)


def test_a_png_is_not_decoded_to_learn_its_size(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", "PNG")
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"IDAT") + 4
    damaged = content[:start] + b"\0" * (len(content) - 12 - 4 - start) + content[-16:]
    assert read_upright_size(damaged) == (60, 40)
    with pytest.raises(ImageError):
        read_image(damaged)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_sixteen_bits_of_which_some_are_used_have_the_full_range(bits: int) -> None:
    values = np.linspace(0, (1 << bits) - 1, 60 * 40).reshape(40, 60).astype(np.uint16)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    pixels = np.asarray(read_image(out.getvalue()))
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_formats_without_their_decoder_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glam.images.header.INSTALLED", frozenset())
    for content in (b"\xff\x0a" + bytes(60), b"FUJIFILMCCD-RAW" + bytes(60)):
        with pytest.raises(MissingDecoderError, match=r"pip install 'glam-retrieval\[formats\]'"):
            read_image(content)


def test_a_jpeg_xl_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    bits, place = 0, 0
    for value, count in ((0, 1), (3, 2), (999_999, 30), (1, 3), (1, 1)):  # 1,000,000 pixels high, square
        bits |= value << place
        place += count
    with pytest.raises(TooLargeError, match="1000000 megapixels"):
        read_image(b"\xff\x0a" + bits.to_bytes(8, "little") + bytes(60))


MEMORY = """
import sys
from glam.images import read_image
from glam.images.formats import readable_formats

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

readable_formats()
read_image(sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")
before = peak()
read_image(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux, to measure peak memory")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "I;16", "I", "F", "CMYK"])
def test_memory_is_at_most_four_times_the_decoded_pixels(mode: str, tmp_path: Path) -> None:
    width, height = 6000, 4000
    gray = Image.linear_gradient("L").resize((width, height))
    image = gray.convert("RGB").quantize(16) if mode == "P" else gray.convert(mode)
    format = "TIFF" if mode in ("F", "CMYK", "I") else "PNG"
    options = {"transparency": 3} if mode == "P" else {}
    image.resize((60, 40)).save(tmp_path / "small", format, **options)
    image.save(tmp_path / "large", format, **options)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    decoded = max(3, {"RGBA": 4, "I": 4, "F": 4, "CMYK": 4}.get(mode, 3)) * width * height
    assert int(done.stdout) <= 4 * decoded + (64 << 20)


def test_a_refused_file_is_told_from_a_damaged_and_a_missing_one(tmp_path: Path) -> None:
    def kind_of(error: Exception) -> type[ImageError]:
        with pytest.raises(ImageError) as caught, image_errors(tmp_path / "a.png"):
            raise error
        return type(caught.value)

    assert kind_of(PermissionError(errno.EACCES, "Permission denied")) is InaccessibleError
    assert kind_of(OSError(errno.EIO, "Input/output error")) is InaccessibleError
    assert kind_of(OSError("image file is truncated")) is ImageError
    assert kind_of(FileNotFoundError(errno.ENOENT, "No such file or directory")) is ImageError
