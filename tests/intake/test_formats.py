"""Formats with and without their decoders, limits, metadata that is damaged or long, and reduced sizes."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glam.errors import ImageError, TooLargeError
from glam.images import (
    IMAGE_SUFFIXES,
    NEEDS_EXTRA,
    image_errors,
    list_formats,
    open_image,
    read_image,
    read_upright_size,
)
from tests.intake.corpus import STORED_FROM_UPRIGHT, VARIANTS, exif, missing_decoder
from tests.intake.formats_files import FURTHER, chunk, encode, gray, pgm, png_16_bits, png_with, two_page_tiff

EVERY = VARIANTS | FURTHER

Draw = Callable[..., Image.Image]

WITHOUT_EXTRA = """
import sys
for module in ("pillow_jxl", "rawpy"):
    sys.modules[module] = None  # neither found nor imported
from glam.errors import MissingDecoderError
from glam.images import IMAGE_SUFFIXES, NEEDS_EXTRA, list_formats, read_image
assert {".jxl", ".dng", ".nef", ".cr2", ".arw"} <= NEEDS_EXTRA and not NEEDS_EXTRA & IMAGE_SUFFIXES
assert ".heic" in IMAGE_SUFFIXES and "JPEG XL" not in list_formats()
for file in sys.argv[1:]:
    try:
        read_image(file)
    except MissingDecoderError as error:
        print(error.reason)
"""

LIGHT = """
import sys
import glam.images
print([name for name in ("pillow_heif", "pillow_jxl", "rawpy", "torch") if name in sys.modules])
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content_of(name: str, picture: Image.Image, orientation: int = 1) -> bytes:
    """The content of a file that shows an upright picture."""
    if reason := missing_decoder(EVERY[name]):
        pytest.skip(reason)
    turn = STORED_FROM_UPRIGHT[orientation]
    return EVERY[name].encode(picture if turn is None else picture.transpose(turn), orientation)


@pytest.fixture
def picture(draw_image: Draw) -> Image.Image:
    return draw_image(120, 80)


def test_without_the_extra_the_reason_has_the_command(picture: Image.Image, tmp_path: Path) -> None:
    files = []
    for name in ("JPEG XL", "DNG", "DNG with sensor data first"):
        files.append(tmp_path / f"{name}.jpg")
        files[-1].write_bytes(content_of(name, picture))
    reasons = run(WITHOUT_EXTRA, *map(str, files)).splitlines()
    command = "install the extra for this format: pip install 'glam-retrieval[formats]'"
    assert reasons == [f"a JPEG XL image; {command}", *[f"a RAW photo; {command}"] * 2]


def test_with_the_extra_its_suffixes_are_images() -> None:
    assert {".jxl", ".dng", ".nef", ".cr3"} <= IMAGE_SUFFIXES
    assert not NEEDS_EXTRA
    assert list_formats().endswith(", JPEG XL, or RAW")


def test_decoders_are_imported_only_for_an_image() -> None:
    assert run(LIGHT).strip() == "[]"


@pytest.mark.parametrize("name", ["PNG", "PNG with EXIF data at its end", "JPEG XL", "HEIC", "TIFF", "AVIF", "WebP"])
def test_the_size_is_read_without_the_pixels(picture: Image.Image, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(name, picture, 6)
    expected = read_image(content).size

    def fail(*args: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    monkeypatch.setattr("pillow_jxl.JpegXLImagePlugin.JXLImageFile._open", fail)
    assert read_upright_size(content) == expected


@pytest.mark.parametrize("name", EVERY)
def test_limits_hold_in_every_format(name: str, picture: Image.Image, tmp_path: Path) -> None:
    content = content_of(name, picture)
    with pytest.raises(TooLargeError, match="more than the limit"):
        read_image(content, max_pixels=picture.width * picture.height - 1)
    file = tmp_path / "a"
    file.write_bytes(content)
    for source in (content, file):
        with image_errors(source), pytest.raises(TooLargeError, match="a file of"):
            open_image(source, max_bytes=len(content) - 1)


def test_a_long_jpeg_xl_header_is_found_behind_other_boxes(picture: Image.Image) -> None:
    bare = encode(picture, "JXL", lossless=True)
    boxes = [(b"ftyp", b"jxl \0\0\0\0jxl "), (b"xml ", bytes(100_000)), (b"jxlc", bare)]
    content = b"\x00\x00\x00\x0cJXL \r\n\x87\n" + b"".join(
        struct.pack(">I", len(data) + 8) + kind + data for kind, data in boxes
    )
    assert read_upright_size(content) == read_image(content).size == picture.size


@pytest.mark.parametrize("format", ["PNG", "WEBP", "HEIF", "JXL", "JPEG"])
def test_damaged_exif_data_do_not_spoil_the_picture(picture: Image.Image, format: str) -> None:
    damaged = b"Exif\0\0no TIFF at all"
    if format == "PNG":
        content = png_with(picture, after=chunk(b"eXIf", b"no TIFF at all"))
    else:
        content = encode(picture, format, exif=damaged)
    assert read_image(content).size == read_upright_size(content) == picture.size


@pytest.mark.parametrize("digits", [b"qq", b"", b"0"])
def test_a_damaged_raw_profile_is_ignored(picture: Image.Image, digits: bytes) -> None:
    text = zlib.compress(b"\nexif\n      10\n" + digits)
    content = png_with(picture, chunk(b"zTXt", b"Raw profile type exif\0\0" + text))
    assert read_image(content).size == read_upright_size(content) == picture.size


def test_the_result_is_not_turned_again(picture: Image.Image) -> None:
    for name in ("JPEG", "PNG", "PNG with XMP", "TIFF", "WebP", "HEIC", "AVIF", "JPEG XL", "DNG"):
        image = read_image(content_of(name, picture, 6))
        assert image.size == read_image(image).size == picture.size


def test_reading_leaves_a_pillow_image_alone(picture: Image.Image) -> None:
    before = picture.copy()
    read_image(picture).paste("red", (0, 0, 20, 20))
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_few_bits_of_sixteen_are_stretched(picture: Image.Image, bits: int) -> None:
    bright = gray(picture).point(lambda value: 255 * (value > 100))
    expected = np.asarray(bright)
    values = (expected.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    for content in (
        encode(Image.fromarray(values), "PNG"),
        encode(Image.fromarray(values), "TIFF"),
        pgm(65535, bits)(bright, 1),
        png_16_bits(bits)(bright.convert("RGB"), 1),
    ):
        assert np.array_equal(np.asarray(read_image(content))[..., 0], expected)


def test_a_dark_image_of_sixteen_bits_or_with_a_known_maximum_stays_dark(picture: Image.Image) -> None:
    values = np.asarray(gray(picture)).astype(np.uint16) * 80  # up to 20,400
    assert np.asarray(read_image(encode(Image.fromarray(values), "PNG"))).max() < 90
    assert np.asarray(read_image(pgm(4095, 8)(picture, 1))).max() < 20


def test_pages_that_are_full_pictures_stay_first(picture: Image.Image) -> None:
    small = picture.resize((60, 40))
    for first, second in ((picture, small), (small.resize((40, 40)), picture), (picture, picture.rotate(180))):
        content = two_page_tiff(first, second, 0)
        assert read_image(content).size == read_upright_size(content) == first.size


@pytest.mark.parametrize("kind", [1, 4])
def test_pages_that_say_they_are_reduced_or_masks_are_passed_over(draw_image: Draw, kind: int) -> None:
    """Whatever their size and aspect ratio."""
    picture = draw_image(700, 500)
    assert read_image(two_page_tiff(draw_image(600, 600), picture, kind)).size == picture.size


def test_a_damaged_later_page_does_not_spoil_the_first(picture: Image.Image) -> None:
    content = bytearray(two_page_tiff(picture, picture.resize((240, 160)), 0))
    content[208:1000] = b"\xff" * 792  # the directory of the second page
    del content[8 + 400 + 3 * 120 * 80 :]
    content[8 + 400 :] = bytes(3 * 120 * 80)
    assert read_upright_size(bytes(content)) == picture.size
    assert read_image(bytes(content)).size == picture.size


def test_an_ordinary_tiff_with_a_maker_is_no_raw_photo(picture: Image.Image) -> None:
    content = encode(picture, "TIFF", tiffinfo={271: "Scanner", 272: "One"})
    assert np.array_equal(read_image(content), picture)


@pytest.mark.parametrize("format", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("size", [(1600, 1200), (1601, 1203), (4000, 500)])
def test_a_reduced_image_has_the_pixels_needed(draw_image: Draw, format: str, size: tuple[int, int]) -> None:
    image = draw_image(*size)
    reduced = read_image(encode(image, format), reduce_to=256)
    assert 256 <= max(reduced.size) < max(size)
    shrunk = np.asarray(image.resize(reduced.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(reduced).astype(int) - shrunk).mean() < 4


def test_images_that_are_not_larger_and_boxes_are_never_reduced(picture: Image.Image) -> None:
    content = encode(picture, "JPEG")
    assert read_image(content, reduce_to=256).size == picture.size
    assert read_image(content, reduce_to=8, box=(0, 0, 50, 40)).size == (50, 40)


def test_reduced_images_are_turned_upright(draw_image: Draw) -> None:
    stored = draw_image(1600, 1200)
    assert read_image(encode(stored, "JPEG", exif=exif(6)), reduce_to=400).size == (300, 400)


def test_cut_files_of_the_extra_raise_only_image_errors(picture: Image.Image) -> None:
    for name in ("HEIC", "JPEG XL", "JPEG XL of a JPEG", "DNG", "DNG with sensor data first"):
        content = content_of(name, picture)
        for at in np.linspace(0, len(content) - 1, 40).astype(int):
            for damaged in (content[:at], content[:at] + bytes(16) + content[at + 16 :]):
                with suppress(ImageError):
                    read_image(damaged)


@pytest.mark.parametrize("name", EVERY)
def test_a_file_open_for_reading_is_an_image(name: str, picture: Image.Image) -> None:
    with io.BytesIO(content_of(name, picture)) as file, open_image(file) as image:
        assert image.size == picture.size


def test_a_heic_whose_header_has_another_size_is_refused(draw_image: Draw) -> None:
    content = bytearray(encode(draw_image(53, 37), "HEIF"))  # odd, so that the pixels are cropped
    width = content.index(b"clap") + 4
    content[width : width + 4] = struct.pack(">I", 4000)
    with pytest.raises(ImageError, match="header"):
        read_image(bytes(content))
