"""Reading images: every mode, orientation, boxes, and what cannot be read."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glam.errors import ImageError
from glam.images import read_image

Draw = Callable[..., Image.Image]


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


def test_path_bytes_array_and_image_read_the_same(draw_image: Draw, tmp_path: Path) -> None:
    image = draw_image(40, 30)
    path = tmp_path / "räumlich mit Leerzeichen é.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), image, np.asarray(image), np.asarray(image) / 255.0):
        assert mean_difference(read_image(source), image) < 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_every_mode_becomes_rgb(draw_image: Draw, mode: str) -> None:
    gray = draw_image(20, 16).convert("L")
    if mode == "I;16":
        source = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    elif mode == "LAB":
        source = Image.new("LAB", gray.size, (128, 0, 0))
    else:
        source = gray.convert("RGB").convert(mode) if mode not in ("I", "F", "1") else gray.convert(mode)
    image = read_image(source)
    assert image.mode == "RGB"
    assert image.size == (20, 16)


def test_sixteen_bits_are_scaled_not_clipped(draw_image: Draw) -> None:
    gray = draw_image(32, 24).convert("L")
    deep = encoded(Image.fromarray(np.asarray(gray).astype(np.uint16) * 257), format="PNG")
    assert mean_difference(read_image(deep), gray.convert("RGB")) < 1


def test_transparency_is_laid_over_white() -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert read_image(encoded(palette, format="PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_jpeg(draw_image: Draw) -> None:
    image = draw_image(32, 32)
    assert mean_difference(read_image(encoded(image.convert("CMYK"), format="JPEG", quality=95)), image) < 8


def test_the_first_frame_of_an_animation_is_taken(draw_image: Draw) -> None:
    frames = [draw_image(24, 24, seed) for seed in (0, 1)]
    animation = encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert mean_difference(read_image(animation), frames[0]) < mean_difference(read_image(animation), frames[1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(draw_image: Draw, orientation: int) -> None:
    image = draw_image(60, 40)
    stored = {
        1: image,
        2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_90),
        7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read_image(encoded(stored, format="JPEG", quality=95, exif=exif))
    assert upright.size == image.size
    assert mean_difference(upright, image) < 4


def test_a_box_is_of_the_upright_image(draw_image: Draw) -> None:
    image = draw_image(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(image.transpose(Image.Transpose.ROTATE_90), format="PNG", exif=exif)
    assert mean_difference(read_image(turned, box=(10, 5, 50, 35)), image.crop((10, 5, 50, 35))) == 0


def test_a_box_is_clipped_to_the_image(draw_image: Draw) -> None:
    assert read_image(draw_image(60, 40), box=(-5, 30.5, 20, 90)).size == (20, 10)


def test_a_box_is_rounded_outwards_to_whole_pixels(draw_image: Draw) -> None:
    image = draw_image(60, 40)
    assert np.array_equal(read_image(image, box=(4.7, 6.2, 19.1, 29.5)), image.crop((4, 6, 20, 30)))


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 3, 9), (100, 0, 120, 10), (0, 0, float("nan"), 4)])
def test_a_senseless_box_is_refused(draw_image: Draw, box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ImageError, match="box"):
        read_image(draw_image(60, 40), box=box)


def test_each_unreadable_file_says_why(draw_image: Draw, tmp_path: Path) -> None:
    good = encoded(draw_image(400, 300), format="JPEG")
    cases = {
        "text.jpg": (b"this is no image", "not an image"),
        "truncated.jpg": (good[: len(good) // 2], "truncated"),
        "empty.jpg": (b"", "empty file"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(path)
        assert caught.value.source == str(path)
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (30_000, 30_000)).save(path)
    with pytest.raises(ImageError, match="megapixels"):
        read_image(path)
    with pytest.raises(ImageError, match="2 megapixels, more than the limit of 1"):
        read_image(Image.new("L", (2000, 1000)), max_pixels=1_000_000)
    assert read_image(Image.new("L", (1000, 1000)), max_pixels=1_000_000).size == (1000, 1000)


@pytest.mark.parametrize(
    "array", [np.zeros((0, 4, 3)), np.zeros((4, 4, 2)), np.zeros(5), np.zeros((4, 4), dtype=complex)]
)
def test_an_array_that_is_no_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="not an image"):
        read_image(array)
